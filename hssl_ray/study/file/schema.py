"""The study file described for editors (JSON Schema) and for readers (tables), both made from the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hssl_ray.study.file.sections import FIELDS
from hssl_ray.study.spec import Study
from hssl_ray.trial.config import TrialConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def study_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a study file. Rules between keys, such as |g0| against the group, are not in it."""
    schema = Study.model_json_schema()
    extends = {"description": "Study file that this one changes, relative to it.", "type": "string"}
    extends["pattern"] = r"\.ya?ml$"
    schema["properties"] = {"study": schema["properties"]["study"], "extends": extends, **schema["properties"]}
    # The name may come from the file that is extended.
    schema["anyOf"] = [{"required": [key]} for key in (*schema.pop("required"), "extends")]
    return {"$schema": DIALECT, "title": "hssl_ray study", **_without_titles(schema)}


def study_keys() -> str:
    """Markdown tables of every key: its values, its default, its meaning."""
    schema = study_schema()
    trial = TrialConfig.model_json_schema()
    lines = [
        "# Keys of a study file",
        "",
        "Made from the models by `hssl-ray schema --markdown`. How they work together: [studies.md](studies.md).",
        "",
        "## The file",
        "",
        *_table(schema, schema["properties"], ("study",)),
    ]
    for name in schema["properties"]:
        section = _section(schema, name)
        if section is not None:
            lines += [
                "",
                f"## `{name}`",
                "",
                section["description"].split("\n")[0],
                "",
                *_table(schema, section["properties"], section.get("required", ())),
            ]
    lines += ["", "## Fields of a trial", "", "These stand in `base`, `grid` or `search.space`.", ""]
    lines += _table(trial, {name: trial["properties"][name] for name in FIELDS})
    return "\n".join(lines) + "\n"


def _section(schema: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The model behind a key of the file; None where the key holds a value or fields of the trial."""
    key = schema["properties"][name]
    for option in (key, *key.get("anyOf", ()), *key.get("oneOf", ())):
        target = _resolve(schema, option)
        if "properties" in target and "description" in target and name not in ("base", "grid"):
            return target
    return None


def _resolve(schema: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    name = part.get("$ref", "").removeprefix("#/$defs/")
    return schema["$defs"][name] if name else part


def _table(schema: Mapping[str, Any], properties: Mapping[str, Any], required: Sequence[str] = ()) -> Iterator[str]:
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    for name, key in properties.items():
        default = "required" if name in required else _default(key)
        yield f"| `{name}` | {_values(schema, key)} | {default} | {_escaped(key.get('description', ''))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _default(key: Mapping[str, Any]) -> str:
    default = key.get("default")
    return (
        ""
        if default is None or isinstance(default, dict)
        else f"`{default}`".replace("True", "true").replace("False", "false")
    )


def _values(schema: Mapping[str, Any], key: dict[str, Any]) -> str:
    target = _resolve(schema, key)
    if options := target.get("anyOf") or target.get("oneOf"):
        texts = dict.fromkeys(_values(schema, option) for option in options if option.get("type") != "null")
        return " or ".join(texts)
    if "enum" in target:
        return ", ".join(f"`{word}`" for word in target["enum"])
    if "const" in target:
        return f"`{target['const']}`"
    match target.get("type"):
        case "array":
            return f"list of {_values(schema, target['items'])}"
        case "object":
            return "mapping"
        case "integer":
            return f"whole number{_bounds(target)}"
        case "number":
            return f"number{_bounds(target)}"
        case "boolean":
            return "true, false"
        case _:
            return "text"


def _bounds(key: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    found = [f"{word} {key[bound]:,}" for bound, word in words.items() if bound in key]
    return f" {', '.join(found)}" if found else ""


def _without_titles(part: Any) -> Any:
    """pydantic's made-up titles only repeat the keys."""
    if isinstance(part, list):
        return [_without_titles(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {key: _without_titles(value) for key, value in part.items() if key != "title" or not isinstance(value, str)}
