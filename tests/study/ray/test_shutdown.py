"""Ray's end must not be the process's end, whichever thread collects garbage then."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import gc, os, sys, tempfile, threading
sys.setswitchinterval(0.02)  # the thread that collects keeps the lock for longer
from hssl_ray.study.ray import settings as ray_settings
ray_settings.prepare(os.environ)
import ray
from hssl_ray.study.ray_engine import disconnect

class Holder:
    pass

class Slow:
    __slots__ = ()  # so that it goes when its holder is cleared, and makes one collection last as long as a shutdown
    def __del__(self):
        sum(range(5_000))

def collect():
    collecting.set()
    gc.collect()

collecting = threading.Event()
with ray_settings.own_address(os.environ), tempfile.TemporaryDirectory(prefix="gc-") as temporary:
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=temporary,
        object_store_memory=200_000_000,
    )
    gc.disable()
    for number in range(20_000):
        holder = Holder()
        holder.itself, holder.slow, holder.reference = holder, Slow(), ray.put(number)
    threading.Thread(target=collect, daemon=True).start()
    collecting.wait()
    gc.enable()
    disconnect()
print("collects again:", gc.isenabled())
"""


@pytest.mark.ray
def test_garbage_of_ray_in_another_thread_does_not_end_the_process() -> None:
    """With plain `ray.shutdown` the script exits with 1, three times in four."""
    done = subprocess.run([sys.executable, "-c", DRIVER], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "collects again: True\n"


def test_a_heads_folder_goes_though_its_last_process_still_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's dashboard writes a file now and then until it has died, a moment after `ray.shutdown`."""
    from hssl_ray.study.ray_engine import _remove

    head, tried, remove = tmp_path / "head", list[Path](), shutil.rmtree

    def beside_a_writer(folder: Path, ignore_errors: bool) -> None:
        tried.append(folder)
        remove(folder, ignore_errors=ignore_errors)
        if len(tried) < 3:
            head.mkdir()
            (head / "tmp_prom_metrics_service_discovery.json").touch()

    monkeypatch.setattr(shutil, "rmtree", beside_a_writer)
    head.mkdir()
    _remove(head)
    assert not head.exists() and len(tried) == 3
