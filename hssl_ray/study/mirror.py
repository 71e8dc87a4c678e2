"""A copy of a home's files on any file system that pyarrow.fs reads, in objects that are whole or absent.

A *unit* is a study (its ledger) or a trial (its journal, config, outcome and checkpoints). On the mirror it is a
folder of blocks, each named by the SHA-256 of its bytes, and an index that says which blocks make which file. Blocks
are written first and the index, under a number of its own, last; what an older index alone names is removed after
that. So a write that is cut short, on a file system without renames, leaves the older index in force.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem

from hssl_ray.study.file.problems import MirrorConflict, MirrorUnavailable
from hssl_ray.study.redaction import redact
from hssl_ray.trial.durable import check_format, decode, encode

log = logging.getLogger(__name__)

FORMAT = 1
BLOCK = 8 << 20  # bytes; a log that grows sends its last block again
LOGS = frozenset({"ledger.jsonl", "journal.jsonl"})


@dataclass(frozen=True)
class Stored:
    """A file on the mirror."""

    bytes: int
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Index:
    """What the mirror has of a unit."""

    number: int = 0
    """Of the newest index there, be it whole or cut short; 0 where there is none."""
    files: Mapping[str, Stored] = field(default_factory=dict)
    """Of the newest whole one."""
    writer: str = ""
    """Which `Mirror` wrote it."""

    @property
    def blocks(self) -> set[str]:
        return {block for stored in self.files.values() for block in stored.blocks}


def content_of(path: Path, limit: int | None = None) -> Iterator[bytes]:
    """A file in blocks; of a log, which may be growing, the whole lines alone, at most `limit` bytes of them.

    Raises:
        OSError: the file is gone.
    """
    left = path.stat().st_size if limit is None else limit
    with path.open("rb") as file:
        while left and (block := file.read(min(BLOCK, left))):
            left -= len(block)
            if path.name in LOGS and (not left or len(block) < BLOCK):
                block = block[: block.rfind(b"\n") + 1]
            if block:
                yield block


class Mirror:
    """Units at an address. Any method may raise `OSError` or `ArrowException` and be called again.

    Args:
        files: the file system.
        root: the mirror's folder on it.
    """

    def __init__(self, files: FileSystem, root: str) -> None:
        self._files, self._root = files, root.rstrip("/")
        self.writer = secrets.token_hex(8)
        self.name = f"{files.type_name}:{self._root}"
        self._made: set[str] = set()

    @classmethod
    def at(cls, address: str) -> Mirror:
        """The mirror at `s3://bucket/path`, `gs://bucket/path`, `file:///path` or whatever else pyarrow.fs reads.

        Raises:
            MirrorUnavailable: pyarrow.fs knows no such file system, or it cannot be reached.
        """
        try:
            return cls(*FileSystem.from_uri(address))
        except (OSError, ArrowException) as error:
            raise MirrorUnavailable(f"HSSL_MIRROR: {redact(f'{address}: {error}')}") from error

    def index(self, unit: str) -> Index:
        """The newest index that is whole; an empty one where there is none.

        Raises:
            NewerFormat: a newer version wrote it.
        """
        numbers = sorted(self._numbers(unit), reverse=True)
        for number in numbers:
            path = self._index_path(unit, number)
            value = decode(self._read(path).rstrip(b"\n"))
            if value is not None:
                check_format(path, value["format"], FORMAT)
                stored = {name: Stored(one["bytes"], tuple(one["blocks"])) for name, one in value["files"].items()}
                return Index(numbers[0], stored, value["writer"])
            log.warning("mirror: %s is damaged, left out", path)
        return Index(max(numbers, default=0))

    def write(self, unit: str, contents: Mapping[str, Iterator[bytes] | Stored], before: Index) -> Index:
        """Make the unit these files; each is given as blocks, or as the mirror has it already.

        Args:
            before: the index that the caller knows.

        Raises:
            MirrorConflict: somebody else has written the unit since.
        """
        if max(self._numbers(unit), default=0) != before.number:
            raise MirrorConflict(f"mirror: {unit} is being written from another home too")
        there = before.blocks
        files: dict[str, Stored] = {}
        for name, content in contents.items():
            if isinstance(content, Stored):
                files[name] = content
                continue
            size = 0
            blocks: list[str] = []
            for block in content:
                digest = hashlib.sha256(block).hexdigest()
                if digest not in there:
                    self._put(f"{unit}/blocks", digest, block)
                    there.add(digest)
                size += len(block)
                blocks.append(digest)
            files[name] = Stored(size, tuple(blocks))
        if files == before.files:
            return before  # nothing new
        after = Index(before.number + 1, files, self.writer)
        plain = {name: {"bytes": stored.bytes, "blocks": stored.blocks} for name, stored in files.items()}
        index = {"format": FORMAT, "unit": unit, "writer": self.writer, "files": plain}
        self._put(unit, _index_name(after.number), encode(index))
        self._tidy(unit, after)
        return after

    def content(self, unit: str, stored: Stored) -> bytes | None:
        """A file, proved by its hashes; None where a block is missing or not what it was."""
        blocks = []
        for digest in stored.blocks:
            try:
                block = self._read(f"{self._root}/{unit}/blocks/{digest}")
            except FileNotFoundError:
                return None
            if hashlib.sha256(block).hexdigest() != digest:
                return None
            blocks.append(block)
        whole = b"".join(blocks)
        return whole if len(whole) == stored.bytes else None

    def _tidy(self, unit: str, now: Index) -> None:
        for number in self._numbers(unit):
            if number < now.number:
                self._files.delete_file(self._index_path(unit, number))
        for info in self._files.get_file_info(FileSelector(f"{self._root}/{unit}/blocks", allow_not_found=True)):
            if info.base_name not in now.blocks:
                self._files.delete_file(info.path)

    def _numbers(self, unit: str) -> list[int]:
        found = self._files.get_file_info(FileSelector(f"{self._root}/{unit}", allow_not_found=True))
        names = [info.base_name for info in found]
        return [int(name[6:-5]) for name in names if name.startswith("index-") and name.endswith(".json")]

    def _index_path(self, unit: str, number: int) -> str:
        return f"{self._root}/{unit}/{_index_name(number)}"

    def _read(self, path: str) -> bytes:
        with self._files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _put(self, folder: str, name: str, content: bytes) -> None:
        path = f"{self._root}/{folder}"
        if path not in self._made:
            self._files.create_dir(path, recursive=True)
            self._made.add(path)
        with self._files.open_output_stream(f"{path}/{name}") as stream:
            stream.write(content)
        size: Any = self._files.get_file_info(f"{path}/{name}").size
        if size != len(content):
            raise OSError(f"mirror: {path}/{name} must have {len(content)} bytes, got {size}")


def _index_name(number: int) -> str:
    return f"index-{number:010d}.json"
