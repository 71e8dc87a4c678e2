"""The blocks of a Markdown page as what they are: files that it shows and commands that it tells people to type.

A command's block is fenced as `console` (`$ ` before each command, then its output) or `bash` (commands alone). The
comment before it says how the tests treat it; without one, it runs in the fast tests:

    <!-- test: slow -->                            takes long, or needs what a slow block made
    <!-- test: exit 2 -->                          ends with this code, by default 0
    <!-- test: slow, output varies -->             what it prints is not compared
    <!-- test: not run because REASON -->
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "docker" / "README.md"]
COMMANDS = ("console", "bash")
SHOWN = ("yaml", "python", "text")
_BLOCK = re.compile(r"(?:^<!-- test: (?P<mark>.*?) -->\n)?^```(?P<language>.*?)\n(?P<body>.*?)^```$", re.M | re.S)
_MARK = re.compile(r"slow|exit \d+|output varies")
_FILE = re.compile(r"# (\S+\.(?:yaml|py))\n")


@dataclass(frozen=True)
class Block:
    """One fenced block; `mark` is the text of its comment."""

    language: str
    body: str
    mark: str

    @property
    def words(self) -> list[str]:
        """What the mark says, without the reason for not running."""
        return [] if self.not_run else [word for word in self.mark.split(", ") if word]

    @property
    def not_run(self) -> bool:
        return self.mark.startswith("not run")

    @property
    def slow(self) -> bool:
        return "slow" in self.words

    @property
    def exit_code(self) -> int:
        return next((int(word.split()[1]) for word in self.words if word.startswith("exit ")), 0)

    @property
    def file(self) -> str | None:
        """The file that the block is, if its first line names one."""
        named = _FILE.match(self.body)
        return named[1] if named and self.language in ("yaml", "python") else None

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command with the output that the page shows under it."""
        if self.language == "bash":
            return [(self.body, "")]
        return [(command, output) for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.body, re.M)]

    @property
    def fault(self) -> str:
        """Why the tests cannot tell what to do with the block; empty if they can."""
        if self.language not in COMMANDS:
            return "" if self.language in SHOWN and not self.mark else f"a block of {self.language or 'nothing'}"
        if self.not_run:
            return "" if re.match(r"not run because \S+ \S+", self.mark) else "not run, and no reason"
        unknown = [word for word in self.words if not _MARK.fullmatch(word)]
        return f"mark {unknown}" if unknown else "" if self.commands else "no command"


def blocks(text: str) -> list[Block]:
    """All blocks of a page, in order."""
    return [Block(found["language"], found["body"], found["mark"] or "") for found in _BLOCK.finditer(text)]


class Reader:
    """Somebody who follows a page word by word in a folder of their own, with a home of their own."""

    def __init__(self, folder: Path, *, own_package: bool = False) -> None:
        """
        Args:
            own_package: whether the folder gets a copy of the package, so that files may be added to it.
        """
        self.folder = folder
        folder.mkdir()
        shutil.copytree(ROOT / "studies", folder / "studies")
        code = ROOT
        if own_package:
            shutil.copytree(ROOT / "hssl_ray", folder / "hssl_ray", ignore=shutil.ignore_patterns("__pycache__"))
            code = folder
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": search, "PYTHONPATH": str(code), "TERM": "dumb"}
        self.environment.pop("COLUMNS", None)

    def save(self, block: Block) -> None:
        """Write the file that the block is, without the line that names it."""
        assert block.file is not None
        (self.folder / block.file).write_text(block.body.split("\n", 1)[1])

    def follow(self, block: Block) -> list[str]:
        """Type the block's commands; what came otherwise than the page says, one text for each."""
        wrong = []
        for command, expected in block.commands:
            done = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != block.exit_code:
                wrong.append(f"$ {command}\nexit code {done.returncode}, not {block.exit_code}:\n{done.stdout}")
            elif expected and "output varies" not in block.words and not same(done.stdout, expected):
                wrong.append(f"$ {command}\nprinted\n{done.stdout}\nnot\n{expected}")
        return wrong


def same(printed: str, shown: str) -> bool:
    """Whether a page shows what was printed. `...` is any text; alone on a line, any lines. Spaces at ends are free."""
    lines = [line.rstrip() for line in shown.strip("\n").splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else ".*?".join(map(re.escape, line.split("..."))) + r"\n" for line in lines
    )
    text = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, text) is not None
