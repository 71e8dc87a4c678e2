"""A file system for pyarrow that is away, or fails at times, in the middle of a write too."""

import random
from typing import Any

from pyarrow.fs import FileSystem, FileSystemHandler, PyFileSystem


class Flaky(FileSystemHandler):  # type: ignore[misc]
    """Passes everything on to another file system, unless `away` or the dice say no.

    Args:
        files: where to.
        failing: the share of calls that fail.
    """

    def __init__(self, files: FileSystem, failing: float = 0.0, seed: int = 0) -> None:
        self.files, self.failing, self.away = files, failing, False
        self.calls = 0
        self._draw = random.Random(seed)

    def file_system(self) -> FileSystem:
        return PyFileSystem(self)

    def _call(self) -> None:
        self.calls += 1
        if self.away or self._draw.random() < self.failing:
            raise OSError("the mirror does not answer, on purpose")

    def get_type_name(self) -> str:
        return "flaky"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        self._call()
        return self.files.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        self._call()
        return self.files.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._call()
        self.files.create_dir(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self._call()
        self.files.delete_file(path)

    def open_input_stream(self, path: str) -> Any:
        self._call()
        return self.files.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self._call()
        stream = self.files.open_output_stream(path)
        if self._draw.random() < self.failing:
            stream.write(b"half")  # the connection breaks, and what was sent stays
            stream.close()
            raise OSError("the connection was lost, on purpose")
        return stream

    def _unused(self, *arguments: Any) -> Any:
        raise NotImplementedError

    delete_dir = delete_dir_contents = delete_root_dir_contents = move = copy_file = _unused
    open_input_file = open_append_stream = _unused
