"""Writes the parts of docs/commands.md that the program knows: `python docs/make_commands.py`.

Between two marks stand a command's help, arguments and options, made anew; all other text is by hand and stays. A
command that the page does not have yet gets a section at its end, under its heading.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer.main

from hssl_ray.cli import app

PAGE = Path(__file__).with_name("commands.md")
BEGIN, END = "<!-- from the program: {} -->", "<!-- by hand -->"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its name as it is typed, those of groups after their group: `data prepare`."""

    def below(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(f"{prefix}{name} ", command)
            elif not command.hidden:
                yield f"{prefix}{name}", command

    return below("", typer.main.get_command(app))


def described(name: str, command: Any) -> str:
    """Usage, help and a table of arguments and options, in Markdown."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    pieces = [_argument(parameter) for parameter in arguments]
    options = ["[OPTIONS]"] if len(shown) > len(arguments) else []
    usage = " ".join(["hssl-ray", name, *options, *pieces])
    lines = [BEGIN.format(name), f"`{usage}`", "", _paragraphs(command.help or ""), ""]
    if shown:
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
    for parameter in shown:
        meaning = (parameter.help or "").replace("|", "\\|")
        lines.append(f"| {_names(parameter)} | {_default(parameter)} | {meaning} |")
    return "\n".join([*lines, *([""] if shown else []), END])


def page(text: str) -> str:
    """The page with all that is the program's made anew.

    Raises:
        ValueError: the page has a command that the program has not.
    """
    known = dict(commands())
    for name in re.findall(BEGIN.format("(.*?)"), text):
        if name not in known:
            raise ValueError(f"{PAGE.name}: there is no command {name}; take its section out")
    for name, command in known.items():
        made = described(name, command)
        section = re.compile(re.escape(BEGIN.format(name)) + ".*?" + re.escape(END), re.DOTALL)
        if section.search(text):
            text = section.sub(lambda _, made=made: made, text)
        else:
            text = f"{text.rstrip()}\n\n## {name}\n\n{made}\n"
    return text


def _paragraphs(help_text: str) -> str:
    """Lines of a paragraph joined, because a page folds them itself."""
    return "\n\n".join(" ".join(part.split()) for part in help_text.split("\n\n"))


def _word(parameter: Any) -> str:
    """An argument's word, without the brackets that some metavars have already."""
    return str(parameter.metavar or parameter.name.upper()).strip("[]")


def _argument(parameter: Any) -> str:
    return _word(parameter) if parameter.required else f"[{_word(parameter)}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_word(parameter)}`".replace("|", "\\|")
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return f"`{names}`"
    return f"`{names} {_value(parameter)}`".replace("|", "\\|")


def _value(parameter: Any) -> str:
    """What an option takes: its metavar, the words it may be, or the kind of its value."""
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(member.value) for member in kind)
    words = [str(word) for word in get_args(kind) if isinstance(word, str)]
    names = {Path: "PATH", int: "INTEGER", float: "NUMBER"}
    return "|".join(words) or names.get(kind, "TEXT")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    value = value.value if isinstance(value, enum.Enum) else value
    return "" if value is None or value is False or value == () or callable(value) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
