"""Many bases beside each other: how well each carries from scale to scale, what it gives and what it costs.

The public SESN code's author advises to choose the basis by least equivariance error before anything else is tuned:
here that takes no training and no images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from hssl_ray.method.basis_report import SMOOTHNESS, BasisReport, BasisSpec, basis_report
from hssl_ray.method.steerable import BasisKind


@dataclass(frozen=True)
class Candidate:
    """One basis of a sweep.

    `parameters` and `macs` are for one pair of channels, `macs` for one cell of the map over all scales. `rank` is at
    the first scale. The residuals are those to the first scale, as `BasisReport.to_first` has them. `on_front`: no
    other candidate has as many usable functions, as small a mean residual and as low a cost, and is better in one.
    """

    kernel_size: int
    effective_size: int
    parameters: int
    macs: int
    rank: int
    max_norm: float
    mean_residual: float
    worst_residual: float
    on_front: bool = False


def basis_sweep(
    kernel_sizes: Iterable[int],
    effective_sizes: Iterable[int],
    scales: Sequence[float],
    kind: BasisKind = "A",
    smoothness: float = SMOOTHNESS,
) -> list[Candidate]:
    """Every basis of these sizes by its mean residual to the first scale, best first.

    Bases with effective size above the kernel's are left out, and those with functions that vanish at the first scale.

    Raises:
        ValueError: an even kernel, a size below 1, scales not ascending, fewer than two of them, or no basis is left.
    """
    if len(scales) < 2:
        raise ValueError(f"scales: a sweep needs two or more, got {tuple(scales)}")
    kernels, sizes = sorted(set(kernel_sizes)), sorted(set(effective_sizes))
    for kernel_size in kernels:
        BasisSpec(kernel_size, min(1, *sizes, 1), tuple(scales), kind).sampled()  # raises what no size could mend
    specs = [BasisSpec(k, e, tuple(scales), kind) for k in kernels for e in sizes if e <= k]
    found = [_candidate(basis_report(spec, smoothness)) for spec in specs if _can_be_sampled(spec)]
    if not found:
        raise ValueError(f"effective_size: none of {sizes} fits a kernel of {kernels} at the first scale")
    ranked = sorted(found, key=lambda c: (c.mean_residual, c.macs))
    return [replace(c, on_front=not any(_beats(other, c) for other in ranked)) for c in ranked]


def _can_be_sampled(spec: BasisSpec) -> bool:
    """Whether the first scale's support has more than one cell, on which all odd functions vanish."""
    return spec.effective_size == 1 or int(spec.kernel_size * spec.scales[0] / spec.scales[-1]) >= 2


def _candidate(report: BasisReport) -> Candidate:
    spec = report.spec
    return Candidate(
        spec.kernel_size,
        spec.effective_size,
        parameters=spec.functions,
        macs=sum(row.support**2 for row in report.scales),
        rank=report.scales[0].rank,
        max_norm=max(row.max_norm for row in report.scales),
        mean_residual=fmean(report.to_first),
        worst_residual=max(report.to_first),
    )


def _beats(one: Candidate, other: Candidate) -> bool:
    """At least as good in everything and better in something."""
    as_good = one.rank >= other.rank and one.mean_residual <= other.mean_residual and one.macs <= other.macs
    same = (one.rank, one.mean_residual, one.macs) == (other.rank, other.mean_residual, other.macs)
    return as_good and not same
