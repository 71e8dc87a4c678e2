"""How long a person waits for a command to start: whole processes, imports and all.

    python benchmarks/start_up.py [--rounds 9] [--json]

`status` is of a study that was never run. The last lines say what the start is made of: Python itself and the library
that the command line is written with.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from commands import command_figures
from figures import Figure, show

STUDY = "studies/quickstart.yaml"
COMMANDS = {
    "hssl-ray --help": (("--help",), 0.3),
    "hssl-ray plan studies/quickstart.yaml": (("plan", STUDY), 0.7),
    "hssl-ray plan studies/quickstart.yaml --json": (("plan", STUDY, "--json"), 0.7),
    "hssl-ray status studies/quickstart.yaml": (("status", STUDY), None),
    "hssl-ray compare studies/quickstart.yaml": (("compare", STUDY), None),
}
PARTS = {
    "of it: python": "pass",
    "of it: python and typer": "import typer",
    "of plan: pydantic": "import pydantic",
    "of status: pyarrow": "import pyarrow",
    "of compare: scipy.special": "import scipy.special",
}


def part_figures(rounds: int) -> Iterator[Figure]:
    """Python with one import, in a process of its own."""
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(rounds):
        for name, code in PARTS.items():
            since = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
            seconds[name].append(time.perf_counter() - since)
    for name, taken in seconds.items():
        yield Figure(name, statistics.median(taken), "s", detail={"rounds": rounds, "least": min(taken)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON line for each figure")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        show("start_up", command_figures(COMMANDS, asked.rounds, {"HSSL_HOME": home}), as_json=asked.json)
    show("start_up", part_figures(asked.rounds), as_json=asked.json)


if __name__ == "__main__":
    main()
