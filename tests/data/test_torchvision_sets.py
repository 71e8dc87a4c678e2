"""Downloads go through torchvision, end quickly without a network, and say what to do; pickles wait for their md5."""

import functools
import hashlib
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hssl_ray.data import torchvision_sets
from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.manifest import work_directory
from hssl_ray.data.pixels import Content
from hssl_ray.data.prepare import prepare
from hssl_ray.data.store import open_dataset
from hssl_ray.data.torchvision_ops import torchvision_datasets

Make = Callable[[DatasetInfo], Content]
Write = Callable[[Content], Path]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def refused() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address of this machine that takes calls and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder at an address of this machine."""
    with ExitStack() as stack:

        def start(folder: Path) -> str:
            handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/"

        yield start


def assert_says_what_to_fetch(message: str, name: str, file: str) -> None:
    for part in (f"{name} could not be downloaded", file, f"hssl-ray data prepare {name} --from DIR"):
        assert part in message


def test_a_refused_download_is_quick_and_says_what_to_fetch(
    mnist: DatasetInfo, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_datasets().MNIST, "mirrors", [refused])
    start = time.perf_counter()
    with pytest.raises(DataError) as caught:
        prepare(mnist)
    assert time.perf_counter() - start < 5
    assert_says_what_to_fetch(str(caught.value), "mnist", "t10k-labels-idx1-ubyte.gz")
    assert [path.name for path in work_directory("mnist").iterdir()] == [".lock"]


def test_a_silent_server_is_given_up(cifar10: DatasetInfo, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_datasets().CIFAR10, "url", silent + "cifar-10-python.tar.gz")
    monkeypatch.setattr(torchvision_sets, "NETWORK_TIMEOUT", 0.2)
    start = time.perf_counter()
    with pytest.raises(DataError) as caught:
        prepare(cifar10)
    assert time.perf_counter() - start < 5
    assert_says_what_to_fetch(str(caught.value), "cifar10", "cifar-10-binary.tar.gz")
    assert socket.getdefaulttimeout() is None


def test_a_data_set_that_torchvision_lacks_says_so(tiny_imagenet: DatasetInfo) -> None:
    with pytest.raises(DataError, match="tiny-imagenet has no download in torchvision") as caught:
        prepare(tiny_imagenet)
    assert "tiny-imagenet-200.zip" in str(caught.value)


def test_a_download_is_checked_and_read(
    mnist: DatasetInfo,
    content: Make,
    idx_folder: Write,
    serve: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """torchvision holds each file against its md5; nothing of it reaches standard output."""
    made = content(mnist)
    folder = idx_folder(made)
    kind = torchvision_datasets().MNIST
    monkeypatch.setattr(kind, "mirrors", [serve(folder)])
    resources = [(path.name, md5(path)) for path in sorted(folder.iterdir())]
    monkeypatch.setattr(kind, "resources", [(name, "0" * 32) for name, _ in resources])
    with pytest.raises(DataError, match="mnist could not be downloaded"):
        prepare(mnist)
    monkeypatch.setattr(kind, "resources", resources)
    manifest = prepare(mnist)
    assert manifest.source.endswith("downloaded by torchvision")
    np.testing.assert_array_equal(open_dataset("mnist").train.images.numpy(), made.train.images)
    assert not list(work_directory("mnist").glob("download-*"))
    assert capsys.readouterr().out == ""


@pytest.fixture
def python_version(
    cifar10: DatasetInfo, content: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Content]:
    """CIFAR-10's Python version, and a torchvision that expects the md5 of these files."""
    made, folder = content(cifar10), tmp_path / "python" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    parts = [(f"data_batch_{place + 1}", made.train, place * 10, place * 10 + 10) for place in range(5)]
    for name, split, start, stop in [*parts, ("test_batch", made.test, 0, 10)]:
        batch: dict[str, Any] = {"data": split.images[start:stop].reshape(10, -1)}
        (folder / name).write_bytes(pickle.dumps({**batch, "labels": split.labels[start:stop].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(made.classes)}))
    kind = torchvision_datasets().CIFAR10
    monkeypatch.setattr(kind, "train_list", [[name, md5(folder / name)] for name, *_ in parts])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5(folder / "test_batch")]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / "batches.meta")})
    return folder.parent, made


def test_the_python_version_of_cifar10_equals_the_binary_one(
    cifar10: DatasetInfo, python_version: tuple[Path, Content], cifar_folder: Write
) -> None:
    folder, made = python_version
    from_python = prepare(cifar10, folder)
    from_binary = prepare(cifar10, cifar_folder(made), force=True)
    assert from_python.digest == from_binary.digest


class Explosive:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.canary, "executed")


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_of_another_md5_is_never_opened(
    cifar10: DatasetInfo, python_version: tuple[Path, Content], tmp_path: Path, name: str
) -> None:
    folder, _ = python_version
    (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Explosive(tmp_path / "canary")))
    with pytest.raises(DataError, match="cifar-10-batches-py: a file is absent or its md5 is wrong"):
        prepare(cifar10, folder)
    assert not (tmp_path / "canary").exists()


# The operators are hidden from a fresh interpreter, as they are where torchvision was built for another torch.
_WITHOUT_OPERATORS = """
import importlib.machinery, sys
sys.path.insert(0, sys.argv[1])
import torch
load = torch.ops.load_library
def refuse(path):
    raise OSError("libcudart is absent")
torch.ops.load_library = refuse
try:
    import torchvision
except RuntimeError as error:
    assert "torchvision::nms" in str(error), error
else:
    raise SystemExit("torchvision imports without its operators: the schemas are not needed any more")
from hssl_ray.data.torchvision_ops import torchvision_datasets
datasets = torchvision_datasets()
assert datasets is torchvision_datasets()
print(datasets.MNIST.__name__)
"""


@pytest.mark.slow
def test_torchvision_imports_where_its_operators_cannot_load() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_OPERATORS, str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "MNIST\n"), done.stderr


def test_another_failure_of_the_import_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("out of file handles")

    monkeypatch.setattr("hssl_ray.data.torchvision_ops.importlib.import_module", fail)
    with pytest.raises(RuntimeError, match="out of file handles"):
        torchvision_datasets()
