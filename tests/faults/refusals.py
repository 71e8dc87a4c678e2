"""Runs the command line on many files in one process, and says what each cost: read by test_hostile.

Arguments come as JSON lines, `{"name", "arguments"}`; answers go out as JSON lines. The first answer is of the process
before any file.
"""

import contextlib
import io
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hssl_ray.cli import main


def peak_mb() -> float:
    """Of this program; getrusage would count the process that started it too."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def once(arguments: list[str]) -> dict[str, Any]:
    """One command as the shell would run it."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["hssl-ray", *arguments]
    since, code, trace = time.process_time(), 0, ""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            code, trace = 1, traceback.format_exc()
    seconds = time.process_time() - since
    said = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "trace": trace}
    return {**said, "seconds": seconds, "peak_mb": peak_mb()}


if __name__ == "__main__":
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"name": task["name"], **once(task["arguments"])}), flush=True)
