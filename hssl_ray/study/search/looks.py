"""The levels of repeated looks at one comparison; plain Python, because `hssl-ray plan` has no time to import scipy.

Who looks at a verdict again and again until it decides is wrong more often than the level alpha = 1 - confidence says.
So alpha is spent over the looks: after n of N seeds alpha (n / N)^2 may have been spent, the power family of spending
functions (Kim and DeMets, Design and analysis of group sequential tests based on the type I error spending rate
function, Biometrika 1987; Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 1983). A look
is tested at what it adds to that. The levels of all looks sum to alpha, so by Bonferroni's inequality the chance of a
wrong verdict at any of them is at most alpha, however the looks depend on one another: for "different", and for each of
the two one-sided tests of "equivalent".
"""

from __future__ import annotations

import hashlib
import json

from hssl_ray.study.file.sections import Race
from hssl_ray.study.spec import Cell

_POWER = 2


def look_confidence(race: Race, seeds: int, confidence: float) -> float:
    """1 - the level that the look at so many seeds is tested at.

    Args:
        seeds: of a cell; between two looks those of the next one count as not yet looked at.
        confidence: of all looks together.
    """
    looks = [look for look in race.looks if look <= seeds] or [race.start]
    before = looks[-2] if len(looks) > 1 else 0
    share = (looks[-1] / race.at_most) ** _POWER - (before / race.at_most) ** _POWER
    return 1 - (1 - confidence) * share


def race_digest(pair: tuple[Cell, Cell]) -> str:
    """Identity of a pair in the ledger, where each step of its race is a sample under this digest."""
    data = ["race", *([cell.name, dict(cell.settings)] for cell in pair)]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
