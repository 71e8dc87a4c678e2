"""Every shipped study parses and opens with its question, its cost as `plan` computes it, and what to expect."""

import re
from pathlib import Path

import pytest

from hssl_ray.cli.readers import leading_comment
from hssl_ray.study.forecast import forecast
from hssl_ray.study.spec import load_study

ROOT = Path(__file__).parents[1] / "studies"
STUDIES = sorted(ROOT.rglob("*.yaml"))
COST = re.compile(
    r"(?P<trials>[\d,]+) trials, (?P<bound>at most )?(?P<gmac>[\d,]+) GMAC: "
    r"about (?P<count>[\d.]+) (?P<unit>minute|hour|day|year)s? on 2 CPU cores"
)
HOURS = {"minute": 1 / 60, "hour": 1, "day": 24, "year": 24 * 365}
REDUCED_HOURS = 45 / 60


def stated(path: Path) -> tuple[int, bool, int, float]:
    """Trials, whether the cost is a bound, GMAC and hours that a study file's header promises."""
    found = COST.search(leading_comment(path))
    assert found, f"{path}: the header must say `N trials, M GMAC: about T minutes on 2 CPU cores`"
    trials, gmac = (int(found[name].replace(",", "")) for name in ("trials", "gmac"))
    return trials, found["bound"] is not None, gmac, float(found["count"]) * HOURS[found["unit"]]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_says_what_it_asks_and_what_to_expect(path: Path) -> None:
    study = load_study(path)
    header = leading_comment(path)
    assert study.study == path.stem
    assert header.splitlines()[0].endswith("?")
    assert "Expect" in header


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_plan_agrees_with_the_header(path: Path) -> None:
    found = forecast(load_study(path))
    trials, bound, gmac, hours = stated(path)
    assert (trials, bound) == (found.trials, found.at_most)
    assert gmac == pytest.approx(found.gmac, rel=0.01)
    assert hours == pytest.approx(found.hours, rel=0.1)
    if path.parent.name in ("reduced", "beyond"):
        assert found.hours <= REDUCED_HOURS


def test_a_header_that_promises_another_cost_is_found_out(tmp_path: Path) -> None:
    """Negative control: twice the seeds, the same header."""
    path = tmp_path / "quickstart.yaml"
    path.write_text((ROOT / "quickstart.yaml").read_text().replace("seeds: 4", "seeds: 8"))
    with pytest.raises(AssertionError):
        test_plan_agrees_with_the_header(path)


def test_study_names_are_unique() -> None:
    """A name is an experiment in the tracking store and a folder in the home."""
    assert len({path.stem for path in STUDIES}) == len(STUDIES)
