"""Whether `make chaos` asks for everything: more seeds, longer schedules, and the tests that take minutes; and the file
that its figures are added to.
"""

import os

import pytest

CHAOS = "HSSL_CHAOS_SEEDS" in os.environ
SEEDS = int(os.environ.get("HSSL_CHAOS_SEEDS", "1"))
FIGURES = os.environ.get("HSSL_CHAOS_FIGURES")
only_in_chaos = pytest.mark.skipif(not CHAOS, reason="minutes long: make chaos")
