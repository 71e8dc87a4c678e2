"""One study out of layers: a file, the files it extends, and `--set` overrides. The nearest layer wins.

Layers are merged as trees, so every value keeps the place it came from. Mappings merge key by key, all else replaces.
A trial's field lives in one of `base`, `grid`, `cases` or `search.space`: a layer that places it takes it from where
the layers below had put it, so that a study can move a field of its parent to its grid.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence, Set
from dataclasses import replace
from functools import reduce
from pathlib import Path

from hssl_ray.study.file.problems import Problem, printable, shown
from hssl_ray.study.file.yaml_source import STUDY_SUFFIXES, Node, Parsed, Position, nearby, parse, read_file

MAX_LAYERS = 16
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

HOMES: tuple[tuple[str, ...], ...] = (("base",), ("grid",), ("cases",), ("search", "space"))
"""Where a field of the trial may stand."""


def read_layers(path: Path, overrides: Sequence[str]) -> Parsed:
    """The merged tree of a study file, without `extends`; and what is wrong with any layer or override."""
    layers, problems = _file_and_parents(path)
    for text in overrides:
        tree, wrong = read_override(text)
        problems += wrong
        layers += [tree] if tree is not None else []
    return Parsed(reduce(_merge, layers) if layers else None, problems)


def layer_files(path: Path) -> list[Path]:
    """A study file and the files it extends, undermost first; empty when one of them cannot be read."""
    return [Path(layer.at.file) for layer in _file_and_parents(path)[0]]


def _file_and_parents(path: Path) -> tuple[list[Node], list[Problem]]:
    """The layers of a file, undermost first, each without its `extends`; none when one of them cannot be read."""
    name = str(path)
    tree, problems = read_file(path, name)
    seen = {os.path.realpath(name): name} if tree is not None else {}
    layers: list[Node] = []
    while tree is not None:
        layers.insert(0, _without(tree, {"extends"}))
        if (entry := tree.child("extends")) is None:
            return layers, problems
        tree, wrong = _parent(name, entry)
        problems += wrong
        if tree is not None:
            name = tree.at.file
            known = os.path.realpath(name)
            if known in seen:
                return [], [*problems, entry.at.problem("extends", f"turns in a circle, back to {seen[known]}")]
            if len(layers) == MAX_LAYERS:
                return [], [*problems, entry.at.problem("extends", f"must be at most {MAX_LAYERS} files deep")]
            seen[known] = name
    return [], problems


def _parent(name: str, entry: Node) -> Parsed:
    """The file an `extends` names, relative to the file that holds it."""
    target = entry.value
    if not isinstance(target, str) or "\0" in target or not target.endswith(STUDY_SUFFIXES):
        return Parsed(None, [entry.at.problem("extends", f"must name a .yaml file, got {shown(entry.plain)}")])
    if Path(target).is_absolute():
        return Parsed(None, [entry.at.problem("extends", f"must be relative to this file, got {shown(target)}")])
    parent = os.path.normpath(Path(name).parent / target)
    if os.path.exists(parent):
        return read_file(Path(parent), parent)
    # A missing file is the fault of the line that names it; every other fault lies in the file itself.
    return Parsed(None, [entry.at.problem("extends", f"no such file, got {shown(target)}{nearby(Path(parent))}")])


def read_override(text: str, option: str = "--set", example: str = "base.epochs=1") -> Parsed:
    """`base.epochs=1` as a layer of one value. Its file is the option itself, its columns those of the text."""
    at = Position(f"{option} {printable(text)}", 1, 1)
    key, equals, value = text.partition("=")
    if not equals or not _KEY.fullmatch(key):
        return Parsed(None, [at.problem("", f'must be KEY=VALUE, such as "{example}"')])
    if key == "extends":
        return Parsed(None, [at.problem("extends", "can stand in a file alone")])
    start = Position(at.file, 1, len(key) + 2)
    tree, problems = parse(value, at.file, start.column) if value.strip() else Parsed(Node(start, None), [])
    if tree is not None:
        for part in reversed(key.split(".")):
            tree = Node(at, {part: tree}, {part: at})
    return Parsed(tree, [replace(problem, path=key) for problem in problems])


def _merge(below: Node, above: Node) -> Node:
    """Two layers as one; where both have a value, the upper one's stays."""
    for home in HOMES:
        elsewhere = {key for other in HOMES if other != home for key in _placed(above, other)}
        below = _drop(below, home, elsewhere - _placed(above, home))
    return _overlay(below, above)


def _placed(tree: Node, path: Sequence[str]) -> Set[str]:
    """The keys of the mapping at a path, or of all mappings of the list there."""
    for key in path:
        tree = tree.child(key) or Node(tree.at, None)
    items = tree.value if isinstance(tree.value, list) else [tree]
    return {key for item in items for key in item.mapping}


def _drop(tree: Node, path: Sequence[str], keys: Set[str]) -> Node:
    """The tree without some keys of the mapping, or the mappings, at a path. A copy: aliases may share parts of the
    given tree.
    """
    if not path:
        if isinstance(tree.value, list):
            return replace(tree, value=[_without(item, keys) for item in tree.value])
        return _without(tree, keys)
    child = tree.child(path[0])
    if child is None:
        return tree
    return replace(tree, value={**tree.mapping, path[0]: _drop(child, path[1:], keys)})


def _without(tree: Node, keys: Set[str]) -> Node:
    if not tree.mapping.keys() & keys:
        return tree
    kept = {key: node for key, node in tree.mapping.items() if key not in keys}
    return replace(tree, value=kept, keys={key: tree.keys[key] for key in kept})


def _overlay(below: Node, above: Node) -> Node:
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = _overlay(entries[key], node) if key in entries else node
    return Node(above.at, entries, {**below.keys, **above.keys})
