"""A basis in words: its figures as tables of text, and what follows from them in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from hssl_ray.method.basis_report import BasisReport, BasisSpec
from hssl_ray.method.basis_sweep import Candidate
from hssl_ray.report.text_table import NOTHING, TextTable

UNEVEN_NORM = 10.0  # times the first scale's: bf16 keeps 8 bits, a function this loud drowns the others
LOST_ENERGY = 0.1
_SHOWN_ORDERS = 4


def basis_name(spec: BasisSpec) -> str:
    """`k7 e3`, with kind and turns where they are not the usual ones."""
    kind = "" if spec.kind == "A" else f" {spec.kind}"
    turns = f", {spec.rotations} turns" if spec.rotations > 1 else ""
    scales = f"{len(spec.scales)} scales {spec.scales[0]:g} to {spec.scales[-1]:g}"
    return f"k{spec.kernel_size} e{spec.effective_size}{kind}, {scales if len(spec.scales) > 1 else 'one scale'}{turns}"


def scale_table(report: BasisReport) -> TextTable:
    """One row a scale."""
    orders = shown_orders(report)
    header = (
        "scale",
        "support",
        "rank",
        "condition",
        "norm mean",
        "norm max",
        *(f"He_{order} kept" for order in orders),
        f"He_{orders[-1]} aliased",
    )
    rows = [
        (
            f"{row.scale:g}",
            f"{row.support} x {row.support}",
            f"{row.rank} of {report.spec.functions}",
            f"{row.condition:.3g}",
            f"{row.mean_norm:.2f}",
            f"{row.max_norm:.2f}",
            *(f"{row.kept_energy[order]:.3f}" for order in orders),
            f"{row.aliased_energy[orders[-1]]:.3f}",
        )
        for row in report.scales
    ]
    return TextTable(f"{basis_name(report.spec)}: {report.spec.functions} functions", header, tuple(rows))


def shown_orders(report: BasisReport) -> list[int]:
    """The lowest orders and the last."""
    orders = len(report.scales[0].kept_energy)
    return sorted({*range(min(_SHOWN_ORDERS, orders)), orders - 1})


def residual_table(report: BasisReport) -> TextTable:
    """To each scale (row) from each larger one (column)."""
    scales = [f"{row.scale:g}" for row in report.scales]
    rows = [
        (f"to {to}", *(NOTHING if value is None else f"{value:.3f}" for value in row[1:]))
        for to, row in zip(scales[:-1], report.residuals, strict=False)
    ]
    title = f"Scale-shift residual, images correlated over {report.smoothness:g} pixels"
    return TextTable(title, ("", *(f"from {scale}" for scale in scales[1:])), tuple(rows))


def basis_tables(report: BasisReport) -> list[TextTable]:
    """What there is to show of one basis; a single scale has no residuals."""
    return [scale_table(report), *([residual_table(report)] if len(report.scales) > 1 else [])]


def basis_notes(report: BasisReport) -> list[str]:
    """What a reader should not overlook, each with its figure."""
    spec, first = report.spec, report.scales[0]
    notes = []
    if first.rank < spec.functions:
        notes.append(
            f"at scale {first.scale:g} the {spec.functions} functions span {first.rank} dimensions, as many as the "
            f"{first.support} x {first.support} cells of the support: {spec.functions - first.rank} weights of each "
            "pair of channels add nothing there"
        )
    loudest = max(report.scales, key=lambda row: row.max_norm)
    if loudest.max_norm > UNEVEN_NORM:
        notes.append(
            f"a function is {loudest.max_norm:.1f} times as large at scale {loudest.scale:g} as at the first: kernels "
            "must be computed in float32"
        )
    least, order, scale = min((kept, n, row.scale) for row in report.scales for n, kept in enumerate(row.kept_energy))
    if least < 1 - LOST_ENERGY:
        notes.append(f"the support at scale {scale:g} keeps {least:.3f} of He_{order}'s energy along a side")
    aliased = [n for n, share in enumerate(first.aliased_energy) if share > LOST_ENERGY]
    if aliased:
        notes.append(
            f"at scale {first.scale:g} orders from {aliased[0]} on have over {LOST_ENERGY:g} of their energy beyond "
            f"the grid's highest frequency, the last {first.aliased_energy[-1]:.2f}: sampled, they are other functions"
        )
    if report.worst_residual is not None:
        value, i, j = max(
            (v, i, j) for i, row in enumerate(report.residuals) for j, v in enumerate(row) if v is not None
        )
        notes.append(
            f"the worst pair of scales is {report.scales[j].scale:g} to {report.scales[i].scale:g}: a lifting layer "
            f"is off by {value:.3f} of its norm; to the first scale by "
            f"{min(report.to_first):.3f} to {max(report.to_first):.3f}"
        )
    if report.turn_residual is not None:
        notes.append(
            f"to its turned copies a lifting layer is off by {report.turn_residual:.4f} of its norm at worst, where "
            "the grid is exact"
        )
    return notes


def sweep_table(candidates: Sequence[Candidate], scales: Sequence[float], smoothness: float) -> TextTable:
    """One row a basis, in the order given; a star marks those that no other beats."""
    rows = [
        (
            f"k{c.kernel_size} e{c.effective_size}",
            f"{c.mean_residual:.4f}",
            f"{c.worst_residual:.4f}",
            str(c.parameters),
            str(c.rank),
            f"{c.macs:,}",
            f"{c.max_norm:.2f}",
            "*" if c.on_front else "",
        )
        for c in candidates
    ]
    header = (
        "basis",
        "residual mean",
        "residual worst",
        "weights a channel pair",
        "rank at first",
        "MAC a cell",
        "norm max",
        "unbeaten",
    )
    written = ", ".join(f"{scale:g}" for scale in scales)
    title = f"Bases on scales {written}; residual to the first scale, images correlated over {smoothness:g} pixels"
    return TextTable(title, header, tuple(rows))
