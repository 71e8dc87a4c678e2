"""A file in one of three folders is a name in a study; what a file must be is checked, and no other name imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hssl_ray.added import added_names, declared
from hssl_ray.data.catalog import ADDED, CATALOG
from hssl_ray.data.published import PUBLISHED
from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.spec import load_study
from tests.documents import ROOT, Reader, blocks

EXTENDING = blocks((ROOT / "docs" / "extending.md").read_text())
FOLDERS = ("hssl_ray/method/added_groups", "hssl_ray/method/added_objectives", "hssl_ray/data/added_sets")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package `additions`, to be given files."""
    folder = tmp_path / "additions"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "additions"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def test_names_are_those_of_the_files(package: Path) -> None:
    for name in ("b.py", "a.py", "_shared.py", "notes.txt"):
        (package / name).touch()
    assert added_names([str(package)]) == ("a", "b")
    with pytest.raises(ValueError, match=r"b\.py: b is there already"):
        added_names([str(package)], taken=("rotation", "b"))


def test_a_file_declares_what_it_must(package: Path) -> None:
    (package / "right.py").write_text("WHAT = 3\n")
    (package / "wrong.py").write_text("WHAT = 'three'\n")
    (package / "empty.py").touch()
    assert declared("additions", "right", "WHAT", int) == 3
    for name, got in {"wrong": "'three'", "empty": "None"}.items():
        with pytest.raises(ValueError, match=rf"{name}\.py: must set WHAT to one int, got {got}"):
            declared("additions", name, "WHAT", int)


def test_the_data_sets_are_the_built_in_ones_and_those_of_the_folder() -> None:
    files = {path.stem for path in (ROOT / FOLDERS[2]).glob("[!_]*.py")}
    assert set(ADDED) == files and files <= set(CATALOG) and set(PUBLISHED) == set(CATALOG)


@pytest.mark.parametrize("word", ["os", "hssl_ray.added", "added_groups.flip", "../flip", "__init__"])
def test_a_study_s_word_imports_nothing(word: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f'study: s\nbase: {{group: "{word}"}}\n')
    before = set(sys.modules)
    with pytest.raises(StudyError, match=r"base\.group: must be one of"):
        load_study(tmp_path / "s.yaml")
    assert not {name for name in set(sys.modules) - before if "added" in name}


def test_the_page_shows_one_file_for_each_folder() -> None:
    shown = [str(Path(block.file).parent) for block in EXTENDING if block.file and block.file.startswith("hssl_ray/")]
    assert tuple(shown) == FOLDERS


@pytest.mark.slow
def test_the_page_s_group_is_exact(tmp_path: Path) -> None:
    """On an odd grid to rounding; on an even one, reflected cells are not those that a stride keeps."""
    reader = Reader(tmp_path / "reader", own_package=True)
    for block in EXTENDING:
        if block.file:
            reader.save(block)
    check = reader.folder / "check.py"
    check.write_text(
        "import sys, torch\n"
        "from hssl_ray.trial.config import TrialConfig\n"
        "from hssl_ray.method.networks import build_network\n"
        "torch.manual_seed(0)\n"
        "for size in (29, 28):\n"
        "    config = TrialConfig(group='flip', width=0.125, image_size=size)\n"
        "    network = build_network(config).double().eval()\n"
        "    x, g = torch.randn(4, 1, size, size).double(), torch.tensor([0, 1, 1, 1])\n"
        "    z, turned = network.backbone(x), network.backbone(network.group.transform_input(g, x))\n"
        "    error = (turned - network.group.transform_features(g, z)).abs().max() / z.abs().max()\n"
        "    assert (error < 1e-12) == (size == 29), (size, error)\n"
    )
    assert reader.follow(blocks("```bash\npython check.py\n```\n")[0]) == []
