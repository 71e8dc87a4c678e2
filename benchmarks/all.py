"""Every benchmark with its usual arguments, one after the other, in one table.

    python benchmarks/all.py [--quick] [--only step memory ...] [--out figures.jsonl]

Each script runs as a process of its own with `--json`; its lines go to `--out` as they come, and a table follows at the
end. Exit code 1 if a script failed, not if a bar was missed. `--quick`: one round of each, to see that all of them run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figure, show

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Script:
    """A benchmark that prints `Figure`s as JSON lines."""

    name: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    """Added by `--quick`; of options given twice the last one counts."""


SCRIPTS = (
    Script("group_convolution", ("--threads", "2"), ("--rounds", "1")),
    Script("lifting", (), ("--rounds", "1")),
    Script("batch_norm", (), ("--rounds", "1")),
    Script("step", ("--threads", "2"), ("--rounds", "1", "--steps", "1")),
    Script("memory"),
    Script("no_op_trials"),
    Script("study_overhead"),
    Script("checkpoint_overhead", (), ("--rounds", "1", "--epochs", "2")),
    Script("workers_start"),
    Script("many_trials"),
    Script("suggestions", (), ("--rounds", "1")),
    Script("start_up"),
    Script("traffic"),
)
"""In the order of the bars in docs/performance.md; `diagnostics`, `even_grids`, `open_data`, `races`, `scale_error`,
`training_step` and `watching` answer other questions and have none.
"""


def lines_of(script: Script, *, quick: bool) -> Iterator[dict[str, Any]]:
    """A script's lines as they come.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    extra = script.quick if quick else ()
    command = [sys.executable, str(HERE / f"{script.name}.py"), "--json", *script.arguments, *extra]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)


def figure(line: dict[str, Any]) -> Figure:
    fields = ("what", "value", "unit", "bar", "better", "detail")
    return Figure(**{field: line[field] for field in fields})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=None, choices=[script.name for script in SCRIPTS])
    parser.add_argument("--out", type=Path, default=Path("figures.jsonl"))
    arguments = parser.parse_args()
    found: list[Figure] = []
    failed: list[str] = []
    with arguments.out.open("w", encoding="utf-8") as out:
        for script in SCRIPTS:
            if arguments.only is not None and script.name not in arguments.only:
                continue
            print(f"{script.name} ...", file=sys.stderr, flush=True)
            try:
                for line in lines_of(script, quick=arguments.quick):
                    print(json.dumps(line), file=out, flush=True)
                    found.append(figure(line))
            except subprocess.CalledProcessError as error:
                failed.append(f"{script.name}: exit code {error.returncode}")
    show("all", found, as_json=False)
    missed = [figure.what for figure in found if figure.holds is False]
    print(f"{len(found)} figures, {len(missed)} below their bar; lines in {arguments.out}", file=sys.stderr)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
