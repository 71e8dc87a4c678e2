"""YAML 1.2 text as a tree of plain data in which every key and value knows its file, line and column.

Events come from ruamel.yaml's pure parser; nothing is constructed, so a tag can create nothing. The tree is built with
a stack and counts what aliases would expand to, so that a small file cannot cost much time or memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from hssl_ray.study.file.problems import Problem, did_you_mean, printable, shown

MAX_BYTES = 2**20
MAX_DEPTH = 64
MAX_NODES = 20_000  # after aliases are expanded
MAX_ALIASES = 1_000
STUDY_SUFFIXES = (".yaml", ".yml")
STUDIES = "studies"  # where a repository keeps its study files

Scalar = str | int | float | bool | None
Loc = tuple[str | int, ...]

# YAML 1.2 core schema (§10.3.2): `no` and `12:30` are text, `1e-3` is a number.
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 100


class Position(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def problem(self, path: str, message: str) -> Problem:
        return Problem(*self, path, message)


@dataclass(slots=True)
class Node:
    """A value at a place: a scalar, a list of nodes, or a mapping of keys to nodes with each key's place."""

    at: Position
    value: Scalar | list[Node] | dict[str, Node]
    keys: dict[str, Position] = field(default_factory=dict)
    size: int = 1  # nodes, with aliases expanded

    @property
    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; empty for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def plain(self) -> Any:
        """The same data without positions."""
        match self.value:
            case dict():
                return {key: node.plain for key, node in self.value.items()}
            case list():
                return [node.plain for node in self.value]
            case _:
                return self.value

    def child(self, key: str | int) -> Node | None:
        """The node under a key or index, or None where there is none."""
        if isinstance(self.value, dict) and isinstance(key, str):
            return self.value.get(key)
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None


class Parsed(NamedTuple):
    """A tree and what is wrong with its text. The tree is None when the text could not be read to its end."""

    tree: Node | None
    problems: list[Problem]


def read_file(path: Path, name: str) -> Parsed:
    """The tree of one file, whose positions carry `name`. Reads regular files alone, and never more than MAX_BYTES."""
    top = Position(name, 1, 1)
    try:
        if not path.exists():
            return Parsed(None, [top.problem("", f"no such file{nearby(path)}")])
        if not path.is_file():
            return Parsed(None, [top.problem("", "not a regular file")])
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return Parsed(None, [top.problem("", f"cannot be read: {getattr(error, 'strerror', None) or error}")])
    tree, problems = parse(raw, name)
    if tree is None or isinstance(tree.value, dict):
        return Parsed(tree, problems)
    return Parsed(None, [*problems, tree.at.problem("", f"must be a mapping of keys to values, got {_kind(tree)}")])


def nearby(path: Path) -> str:
    """A suggestion in place of a missing study file: one that has the name that was given, or one beside it."""
    if path.suffix not in STUDY_SUFFIXES:
        folders = [place for place in (path.parent, *sorted(Path(STUDIES).glob("**/"))) if place.is_dir()]
        named = [place / f"{path.name}{suffix}" for place in folders for suffix in STUDY_SUFFIXES]
        if found := next((str(file) for file in named if file.is_file()), None):
            return f' (did you mean "{found}"?)'
    siblings = (
        sorted(p.name for p in path.parent.iterdir() if p.suffix in STUDY_SUFFIXES) if path.parent.is_dir() else []
    )
    return did_you_mean(path.name, siblings)


def parse(raw: bytes | str, name: str, column: int = 1) -> Parsed:
    """The tree of a YAML text whose first line begins at `column`.

    All duplicate keys, tags and unusable scalars are reported; an error of syntax, encoding or limits ends the reading.
    """
    text, problem = _decode(raw, Position(name, 1, column))
    return Parsed(None, [problem]) if problem else _Builder(name, column - 1).build(text)


def _decode(raw: bytes | str, top: Position) -> tuple[str, Problem | None]:
    try:
        encoded = raw.encode() if isinstance(raw, str) else raw
    except UnicodeEncodeError:
        return "", top.problem("", "must be Unicode text, got a lone surrogate")
    if len(encoded) > MAX_BYTES:
        return "", top.problem("", f"must be at most {MAX_BYTES:,} bytes")
    if encoded.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return "", top.problem("", "must be UTF-8 without a byte order mark")
    try:
        return encoded.decode(), None
    except UnicodeDecodeError as error:
        before, byte = encoded[: error.start].decode(), encoded[error.start]
        return "", _at(before, top.file).problem("", f"must be UTF-8, got byte 0x{byte:02x}")


def _at(before: str, name: str) -> Position:
    """The place just after a text."""
    last = before.rfind("\n") + 1
    return Position(name, before.count("\n") + 1, len(before) - last + 1)


class _Limit(Exception):
    """A limit is passed; there is no use in reading on."""

    def __init__(self, at: Position, message: str) -> None:
        self.problem = at.problem("", message)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet; `key` is the key of a mapping that waits for its value."""

    node: Node
    anchor: str | None
    key: tuple[str, Position] | None = None


class _Builder:
    """Builds the tree of one text, event by event."""

    def __init__(self, name: str, indent: int = 0) -> None:
        self.name = name
        self.indent = indent  # columns before the text's first line
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node | None] = {}  # None while the anchored collection is open
        self.aliases = 0
        self.documents = 0
        self.root: Node | None = None

    def build(self, text: str) -> Parsed:
        try:
            for event in self._events(text):
                self._take(event)
        except _Limit as limit:
            return Parsed(None, [*self.problems, limit.problem])
        if self.root is None:
            return Parsed(None, [*self.problems, Problem(self.name, 1, self.indent + 1, "", "is empty")])
        return Parsed(self.root, self.problems)

    def _events(self, text: str) -> Iterator[Event]:
        """ruamel's events; its errors become a limit with the place of the fault."""
        try:
            yield from YAML(typ="safe", pure=True).parse(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = self._position(mark) if mark else Position(self.name, 1, 1)
            raise _Limit(at, _syntax(error, text, at, self.indent)) from None
        except ReaderError as error:
            code = error.character if isinstance(error.character, int) else ord(str(error.character))
            at = _at(text[: error.position], self.name)
            raise _Limit(at, f"a study file is text, got the control character U+{code:04X}") from None
        except YAMLError as error:
            raise _Limit(Position(self.name, 1, 1), f"not YAML: {_one_line(error)}") from None
        except (ValueError, OverflowError) as error:  # ruamel does not check the range of \U escapes
            raise _Limit(Position(self.name, 1, 1), f"not YAML: {_one_line(error)}") from None

    def _position(self, mark: Any) -> Position:
        return Position(self.name, mark.line + 1, mark.column + 1 + (self.indent if mark.line == 0 else 0))

    def _take(self, event: Event) -> None:
        at = self._position(event.start_mark)
        match event:
            case DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise _Limit(at, "a study file is one document, got a second `---`")
            case ScalarEvent() if self._expects_key():
                self._take_key(str(event.value), at, event)
            case ScalarEvent():
                if not event.value and event.style is None and self.stack and (open_key := self.stack[-1].key):
                    at = open_key[1]  # the parser puts a value that is not there at the next line
                self._refuse_tag(event, at)
                node = Node(at, self._scalar(event, at))
                if event.anchor:
                    self.anchors[event.anchor] = node
                self._place(node)
            case MappingStartEvent() | SequenceStartEvent():
                if self._expects_key():
                    raise _Limit(at, "a key must be plain text")
                if len(self.stack) == MAX_DEPTH:
                    raise _Limit(at, f"nested deeper than {MAX_DEPTH} levels")
                self._refuse_tag(event, at)
                if event.anchor:
                    self.anchors[event.anchor] = None
                empty: list[Node] | dict[str, Node] = {} if isinstance(event, MappingStartEvent) else []
                self.stack.append(_Open(Node(at, empty), event.anchor))
            case CollectionEndEvent():
                done = self.stack.pop()
                if done.anchor:
                    self.anchors[done.anchor] = done.node
                self._place(done.node)
            case AliasEvent():
                self._take_alias(event.anchor, at)

    def _expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].node.value, dict) and self.stack[-1].key is None

    def _take_key(self, key: str, at: Position, event: ScalarEvent) -> None:
        self._refuse_tag(event, at)
        parent = self.stack[-1].node
        if key in parent.keys:
            path = ".".join([*(o.key[0] for o in self.stack if o.key), key])
            first = parent.keys[key]
            self.problems.append(at.problem(printable(path), f"given twice, first on line {first.line}"))
        else:
            parent.keys[key] = at
        self.stack[-1].key = (key, at)

    def _take_alias(self, anchor: str, at: Position) -> None:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise _Limit(at, f"must use at most {MAX_ALIASES:,} aliases")
        if self._expects_key():
            raise _Limit(at, "a key must be plain text, got an alias")
        if anchor not in self.anchors:
            raise _Limit(at, f"no anchor &{printable(anchor)} stands before this alias")
        target = self.anchors[anchor]
        if target is None:
            raise _Limit(at, f"the alias *{printable(anchor)} stands inside its own anchor")
        self._place(target, alias_at=at)

    def _place(self, node: Node, alias_at: Position | None = None) -> None:
        """Hand a finished value to the collection that waits for it."""
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.node.size += node.size
        if sum(level.node.size for level in self.stack) > MAX_NODES:
            raise _Limit(alias_at or node.at, f"must hold at most {MAX_NODES:,} values, aliases expanded")
        match parent.node.value:
            case dict() as entries:
                assert parent.key is not None
                entries.setdefault(parent.key[0], node)  # the second of two equal keys is already a problem
                parent.key = None
            case list() as items:
                items.append(node)
            case _:
                raise AssertionError("only a collection stays open")

    def _refuse_tag(self, event: Any, at: Position) -> None:
        tag = event.tag
        if tag is not None and str(tag) != "!":
            self.problems.append(at.problem("", f"tags are not allowed, got {printable(str(tag))[:60]}"))

    def _scalar(self, event: ScalarEvent, at: Position) -> Scalar:
        """YAML 1.2's core schema for plain text; quoted and block text stays text."""
        text = str(event.value)
        if event.style is not None or event.tag is not None:
            if any("\ud800" <= c <= "\udfff" for c in text):
                self.problems.append(at.problem("", f"must be Unicode text, got {shown(text)}"))
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if special := _SPECIAL.fullmatch(text):
            return float("nan") if special[3] else float(f"{special[1]}inf")
        is_int = _INT.fullmatch(text) is not None
        if not is_int and not _FLOAT.fullmatch(text):
            return text
        if len(text) > _LONGEST_NUMBER:
            self.problems.append(at.problem("", f"a number must have at most {_LONGEST_NUMBER} characters"))
            return text
        if not is_int:
            return float(text)
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if abs(number) >= 2**63:
            self.problems.append(at.problem("", f"a whole number must fit in 64 bits, got {text}"))
        return number


def _syntax(error: MarkedYAMLError, text: str, at: Position, indent: int) -> str:
    """ruamel's complaint in one line; a tab, the commonest cause, is named."""
    lines = text.splitlines()
    column = at.column - 1 - (indent if at.line == 1 else 0)
    if at.line <= len(lines) and lines[at.line - 1][column : column + 1] == "\t":
        return "YAML indents with spaces, got a tab"
    parts = [_one_line(part) for part in (error.context, error.problem) if part]
    return "not YAML: " + ", ".join(parts)


def _one_line(message: object) -> str:
    return printable(" ".join(str(message).split()))


def _kind(node: Node) -> str:
    match node.value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case scalar:
            return shown(scalar)
