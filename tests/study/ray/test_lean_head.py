"""A head of our own starts without what nobody asks it, its dashboard beside the rest, and Ray is as it was after."""

import inspect
import subprocess
import sys

import pytest
from ray._private import node, parameter

from hssl_ray.study.ray.lean_head import NEEDLESS, LeanHead

HEAD = """
import os, secrets, sys, tempfile
from pathlib import Path
from hssl_ray.machine.processes import MARK, marked
from hssl_ray.study.ray import settings as ray_settings
ray_settings.prepare(os.environ)
os.environ[MARK] = secrets.token_hex(16)
import ray
from hssl_ray.study.ray.lean_head import LeanHead
from hssl_ray.study.ray_engine import disconnect

def started():
    said = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(bytes(1)) for pid in marked(os.environ[MARK])}
    programs = {Path(os.fsdecode(word)).name: pid for pid, words in said.items() for word in words}
    names = {"dashboard.py", "log_monitor.py", "monitor.py", "raylet"}
    return {name: pid for name, pid in programs.items() if name in names}

head = LeanHead()
with ray_settings.own_address(os.environ), tempfile.TemporaryDirectory(prefix="lean-") as temporary:
    with head.starting():
        ray.init(
            address="local", include_dashboard=True, dashboard_host="127.0.0.1", log_to_driver=False,
            logging_level="ERROR", _temp_dir=temporary, object_store_memory=200_000_000,
        )
    there = head.dashboard.result(60)
    assert there.startswith("127.0.0.1:"), there
    found = started()
    nice = {kind: os.getpriority(os.PRIO_PROCESS, pid) for kind, pid in found.items()}
    print(sorted(found), nice["dashboard.py"] > nice["raylet"])
    head.settle()
    disconnect()
    head.close()
    print(sorted(started()), "left")
"""


@pytest.mark.ray
def test_a_lean_head_has_a_dashboard_and_no_monitors_and_leaves_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", HEAD], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['dashboard.py', 'raylet'] True", "[] left"]


def test_ray_knows_what_is_left_out() -> None:
    """A name that Ray no longer has would be an error at the start of every study."""
    assert set(NEEDLESS) <= set(inspect.signature(parameter.RayParams).parameters)


def test_ray_is_as_it_was_after_the_start() -> None:
    before = parameter.RayParams, node.Node.start_api_server
    head = LeanHead()
    with pytest.raises(ValueError, match="broken"), head.starting():
        assert parameter.RayParams is not before[0] and node.Node.start_api_server is not before[1]
        given = parameter.RayParams(num_cpus=3)
        assert [given.num_cpus, given.no_monitor, given.include_log_monitor] == [3, True, False]
        raise ValueError("broken")
    assert (parameter.RayParams, node.Node.start_api_server) == before
    head.settle()  # nothing has started
    head.close()
