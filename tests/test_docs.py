"""The documents' links lead somewhere, their commands exist, and they name nothing of one machine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from hssl_ray.cli import app
from hssl_ray.study.spec import load_study

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
COMMAND = re.compile(r"^\s*(?:\.venv/bin/)?hssl-ray ([a-z]+)", re.MULTILINE)


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
