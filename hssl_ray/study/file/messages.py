"""pydantic's errors in a study file's words: where, the rule, the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from hssl_ray.study.file.problems import Problem, did_you_mean, printable, shown
from hssl_ray.study.file.yaml_source import Loc, Node

_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "finite_number": "must be a finite number",
    "missing": "is required",
}
_BOUNDS = {
    "greater_than": ("must be above", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be below", "lt"),
    "less_than_equal": ("must be at most", "le"),
}
_HINTS = {
    "seed": 'unknown key: the seeds of all trials are the top-level key "seeds"',
    "search.space.method": "cannot be searched: methods are compared, so method stands in base or grid",
    "<<": 'unknown key: YAML 1.2 has no merge keys; "extends" layers whole files',
}
_SEVERAL = "study_rules"  # the type of an error that carries several faults in its context

Fault = tuple[Loc, str]


def faults(error: ValidationError) -> Iterator[Fault]:
    """Each error as the place in the data and a sentence with rule and value."""
    for item in error.errors(include_url=False):
        loc, context = item["loc"], item.get("ctx", {})
        if item["type"] == _SEVERAL:
            yield from ((loc + place, message) for place, message in context["faults"])
        elif item["type"] == "value_error":
            # Our own validators name the key that is at fault before a colon.
            key, colon, rule = str(context["error"]).partition(": ")
            yield ((*loc, key), rule) if colon and key.isidentifier() else (loc, str(context["error"]))
        elif item["type"] == "extra_forbidden":
            yield loc, "unknown key"
        elif item["type"] == "missing":
            yield loc, _TYPES["missing"]
        else:
            yield loc, f"{_rule(item['type'], context, item['msg'])}, got {shown(item['input'])}{_near(item)}"


def _rule(kind: str, context: dict[str, Any], message: str) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{words} {context[bound]:,}" if isinstance(context[bound], int) else f"{words} {context[bound]:g}"
    match kind:
        case "literal_error":
            return f"must be one of {context['expected'].replace(' or ', ', ').replace(chr(39), '')}"
        case "too_short":
            return "must not be empty"
        case "too_long":
            return f"must have at most {context['max_length']:,} items"
        case "string_pattern_mismatch":
            return "must start with a letter or digit and hold up to 64 letters, digits, dots, dashes and underscores"
        case _:
            return f"{message[:1].lower()}{message[1:]}"


def _near(item: Any) -> str:
    if item["type"] != "literal_error" or not isinstance(item["input"], str):
        return ""
    return did_you_mean(
        item["input"], [word.strip("'") for word in item["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    )


def as_problem(fault: Fault, tree: Node, keys: dict[Loc, tuple[str, ...]]) -> Problem:
    """A fault at its place in the tree.

    `keys` lists the known keys of each mapping, for suggestions; mappings in a list stand under the list's own place.
    """
    loc, message = fault
    node, at = tree, tree.at
    steps: list[str | int] = []
    for step in loc:
        child = node.child(step)
        if child is None:
            # Either the name of an alternative of a union, which the file does not have, or a key that is missing.
            if step in keys.get(_mapping(steps), ()) or message == _TYPES["missing"]:
                steps.append(step)
            continue
        at = node.keys[step] if message == "unknown key" and isinstance(step, str) else child.at
        steps.append(step)
        node = child
    path = _dotted(steps)
    if message == "unknown key" and steps:
        name = str(steps[-1])
        known = keys.get(_mapping(steps[:-1]), ())
        message = _HINTS.get(path) or _HINTS.get(name) or f"unknown key{did_you_mean(name, known) or _listed(known)}"
    return at.problem(path, message)


def _mapping(steps: list[str | int]) -> Loc:
    return tuple(step for step in steps if isinstance(step, str))


def _dotted(steps: list[str | int]) -> str:
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f"{'.' if path else ''}{printable(step)}"
    return path


def _listed(known: tuple[str, ...]) -> str:
    return f" (known: {', '.join(known)})" if known else ""
