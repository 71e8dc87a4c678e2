"""A driver for the tests of the Ray engine: `python -m tests.study.ray_driver HOME STUDY PROGRAM`.

STUDY is JSON, the arguments of `engine_programs.study`. Prints the summary as JSON.
"""

import json
import sys
from pathlib import Path

from hssl_ray.study.ray.settings import build_ray_engine
from hssl_ray.study.run import run_study
from tests.faults import broken_program
from tests.study import ddp_program, engine_programs

PROGRAMS = {
    "plain": engine_programs.PROGRAM,
    "telling": engine_programs.TELLING,
    "ddp": ddp_program.PROGRAM,
    "broken": broken_program.PROGRAM,
}


def main(home: str, asked: str, program: str) -> int:
    engine = build_ray_engine(PROGRAMS[program], lambda address: print(f"dashboard {address}", flush=True))
    summary = run_study(engine_programs.study(**json.loads(asked)), home=Path(home), engine=engine)
    print(json.dumps(summary.counts), flush=True)
    return 128 + summary.interrupted if summary.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
