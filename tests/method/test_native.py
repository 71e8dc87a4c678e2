"""Compiled kernels: built once, found again, and done without where they cannot be had."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hssl_ray.method import native
from hssl_ray.method.native import SWITCH, cache_folder, native_library

SOURCE = 'extern "C" int answer() { return NUMBER; }\n'


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._load.cache_clear()
    yield
    native._load.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "answer"
    folder.mkdir()
    (folder / "answer.cpp").write_text('#include "number.hpp"\n' + SOURCE)
    (folder / "number.hpp").write_text("#define NUMBER 42\n")
    return folder


@pytest.mark.skipif(native.compiler() is None, reason="no C++ compiler on this machine")
def test_a_library_is_built_once_for_its_source(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = native_library(source)
    assert library is not None and library._functions.answer() == 42
    (built,) = cache_folder().iterdir()  # and no scratch folder
    native._load.cache_clear()

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("built again")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", never)
        assert native_library(source) is not None
    (source / "number.hpp").write_text("#define NUMBER 43\n")
    native._load.cache_clear()
    changed = native_library(source)
    assert changed is not None and changed._functions.answer() == 43
    assert len(list(cache_folder().iterdir())) == 2 and built.exists()


def test_switched_off_nothing_is_built(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    assert native_library(source) is None
    assert not cache_folder().exists()


@pytest.mark.parametrize("trouble", ["no compiler", "no such compiler", "bad source", "no room"])
def test_trouble_is_told_once_and_done_without(
    trouble: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    match trouble:
        case "no compiler":
            monkeypatch.setattr(native, "compiler", lambda: None)
        case "no such compiler":
            monkeypatch.setenv("CXX", str(tmp_path / "missing"))
        case "bad source":
            (source / "answer.cpp").write_text("this is no C++\n")
        case "no room":
            (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert native_library(source) is None
        assert native_library(source) is None
    (record,) = caplog.records
    assert "answer could not be built" in record.getMessage()
