"""The documents' links lead somewhere, and their commands exist and do what the page says they do."""

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main

from hssl_ray.cli import app
from hssl_ray.study.spec import load_study
from tests.documents import COMMANDS, PAGES, ROOT, Block, Reader, blocks

LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
COMMAND = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?hssl-ray ([a-z]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert missing == []


def test_commands_in_the_documents_exist() -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = {name for page in PAGES for name in COMMAND.findall(page.read_text())}
    assert named and named <= known


def test_make_has_the_two_commands_of_the_readme() -> None:
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    for target in ("study", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE) and f"make {target}" in readme


def test_every_command_explains_itself() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "hssl_ray", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(name in help_text for name in ("plan", "run", "status", "compare", "report", "data"))


def test_the_readme_s_study_is_valid(tmp_path: Path) -> None:
    """It extends the quick-start study, so it is planned beside a copy of that."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shutil.copy(ROOT / "studies" / "quickstart.yaml", tmp_path)
    (tmp_path / "readme.yaml").write_text(block)
    assert load_study(tmp_path / "readme.yaml").trial_count == 240


NEEDS_OWN_PACKAGE = "extending.md"  # a page whose files are added to the package


def test_the_tests_know_what_to_do_with_every_block() -> None:
    found = {page.name: [block.fault for block in blocks(page.read_text()) if block.fault] for page in PAGES}
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    ("block", "says"),
    {
        "```\nhssl-ray plan a.yaml\n```": "a block of nothing",
        "```sh\nhssl-ray plan a.yaml\n```": "a block of sh",
        "```console\nhssl-ray plan a.yaml\n```": "no command",
        "<!-- test: not run -->\n```bash\nx\n```": "not run, and no reason",
        "<!-- test: sometimes -->\n```bash\nx\n```": "mark ['sometimes']",
        "<!-- test: slow, exit 2, output varies -->\n```bash\nx\n```": "",
    }.items(),
)
def test_an_unmarked_or_unknown_block_is_a_fault(block: str, says: str) -> None:
    (found,) = blocks(f"Text.\n\n{block}\n")
    assert found.fault == says


def commands(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text()) if block.language in COMMANDS and not block.not_run]


def fast(block: Block) -> bool:
    return not block.slow


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(fast, commands(page)))], ids=lambda page: page.name)
def test_quick_commands_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    wrong = followed(page, tmp_path, fast)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if not all(map(fast, commands(page)))], ids=lambda page: page.name
)
def test_slow_commands_do_so_too_all_in_order(page: Path, tmp_path: Path) -> None:
    """In order, because what one makes the next one reads."""
    wrong = followed(page, tmp_path, lambda block: True)
    assert not wrong, "\n".join(wrong)


def followed(page: Path, tmp_path: Path, wanted: Callable[[Block], bool]) -> list[str]:
    reader = Reader(tmp_path / "reader", own_package=page.name == NEEDS_OWN_PACKAGE)
    wrong = []
    for block in blocks(page.read_text()):
        if block.file is not None:
            reader.save(block)
        elif block.language in COMMANDS and not block.not_run and wanted(block):
            wrong += reader.follow(block)
    return wrong


def test_what_a_page_shows_is_compared(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "reader")
    (right, other, code) = blocks(
        "```console\n$ echo a 17 c; echo; echo d\na ... c\n...\nd\n```\n\n"
        "```console\n$ echo a\nb\n```\n\n```bash\necho a; exit 3\n```\n"
    )
    assert reader.follow(right) == []
    assert reader.follow(other) == ["$ echo a\nprinted\na\n\nnot\nb\n"]
    assert reader.follow(code)[0].endswith("exit code 3, not 0:\na\n")


def test_the_page_of_commands_is_the_program_s() -> None:
    """After a change of the command line: `python docs/make_commands.py`."""
    text = (ROOT / "docs" / "commands.md").read_text()
    make = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))
    assert make["page"](text) == text, "run: python docs/make_commands.py"
    assert make["page"](text.replace("| `--engine ray", "| `--motor ray")) == text
    assert make["page"]("# Commands\n").count("<!-- by hand -->") == len(list(make["commands"]()))
    with pytest.raises(ValueError, match="there is no command walk"):
        make["page"](text + "<!-- from the program: walk -->\n<!-- by hand -->\n")
