"""Layers of a study: files it extends, overrides, and which of them wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.spec import load_study

PARENT = "study: parent\nbase: {epochs: 5, warmup_epochs: 1, width: 0.5}\ngrid: {method: [a_ssl, h_ssl]}\nseeds: 3\n"


def write(folder: Path, **files: str) -> Path:
    """Files of a folder; returns the last one."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
    return path


def test_mappings_merge_and_everything_else_replaces(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        parent=PARENT,
        child="extends: parent.yaml\nstudy: child\nbase: {width: 1.0}\ngrid: {method: [h_ssl]}\n",
    )
    study = load_study(path)
    assert study.study == "child"
    assert study.base == {"epochs": 5, "warmup_epochs": 1, "width": 1.0}
    assert study.grid == {"method": ["h_ssl"]}
    assert study.seeds == 3


def test_a_study_that_adds_nothing_is_the_one_it_extends(tmp_path: Path) -> None:
    path = write(tmp_path, parent=PARENT, child="extends: parent.yaml\n")
    assert load_study(path).digest == load_study(tmp_path / "parent.yaml").digest


def test_paths_are_relative_to_the_file_that_holds_them(tmp_path: Path) -> None:
    write(tmp_path, root=PARENT)
    write(tmp_path / "a", middle="extends: ../root.yaml\nseeds: 4\n")
    path = write(tmp_path / "b", leaf="extends: ../a/middle.yaml\nstudy: leaf\n")
    assert (load_study(path).seeds, load_study(path).study) == (4, "leaf")


def test_a_layer_may_move_a_field_to_the_grid_and_back(tmp_path: Path) -> None:
    path = write(
        tmp_path, parent=PARENT, child="extends: parent.yaml\ngrid: {width: [0.5, 1.0]}\nbase: {method: h_ssl}\n"
    )
    study = load_study(path)
    assert study.grid == {"width": [0.5, 1.0]}
    assert study.base == {"epochs": 5, "warmup_epochs": 1, "method": "h_ssl"}
    searched = load_study(path, ["search={trials: 2, space: {width: [1.0, 2.0]}}"])
    assert searched.grid == {}
    back = load_study(
        path, ["search={trials: 2, space: {width: [1.0, 2.0]}}", "search.space.epochs=[4]", "base.width=1"]
    )
    assert back.base["width"] == 1
    assert back.search is not None and back.search.space == {"epochs": [4]}


def test_a_layer_may_move_a_field_to_its_cases_and_back(tmp_path: Path) -> None:
    path = write(
        tmp_path, parent=PARENT, child="extends: parent.yaml\ncases: [{width: [0.5, 1.0], epochs: 6}, {epochs: 7}]\n"
    )
    study = load_study(path)
    assert "width" not in {**study.base, **study.grid}
    assert [cell.settings["epochs"] for cell in study.cells()] == [6, 6, 6, 6, 7, 7]  # the parent's two methods each
    back = load_study(path, ["base.width=1"])
    assert (back.base["width"], back.cases) == (1, [{"epochs": 6}, {"epochs": 7}])


def test_within_one_layer_a_field_stands_in_one_place(tmp_path: Path) -> None:
    """Negative control of the above."""
    path = write(tmp_path, parent=PARENT, child="extends: parent.yaml\ngrid: {width: [1.0]}\nbase: {width: 1.0}\n")
    with pytest.raises(StudyError, match=r"child\.yaml:2:15: grid\.width: is set in base too"):
        load_study(path)


def test_aliases_are_not_changed_by_a_layer_above(tmp_path: Path) -> None:
    parent = "study: s\ngrid: &g {width: [0.5, 1.0]}\nsearch: {trials: 1, space: *g}\n"
    path = write(tmp_path, parent=parent, child="extends: parent.yaml\ngrid: {width: [2.0]}\n")
    study = load_study(path, ["search.space={batch_size: [100]}"])
    assert study.grid == {"width": [2.0]}


def test_overrides_come_last_and_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, parent=PARENT)
    study = load_study(path, ["seeds=5", "seeds=[7]", "base.temperature=1e-1", "resources.workers=2", "search="])
    assert study.seeds == [7]
    assert study.base["temperature"] == 0.1
    assert study.resources.workers == 2
    assert study.search is None


def test_a_mistake_is_reported_in_the_layer_that_holds_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        parent=PARENT.replace("epochs: 5", "epochs: five"),
        child="extends: parent.yaml\nstudy: child\n# here too\nbase:\n  widht: 1\n",
    )
    with pytest.raises(StudyError) as raised:
        load_study(path)
    assert [(Path(p.file).name, p.line, p.column, p.path) for p in raised.value.problems] == [
        ("child.yaml", 5, 3, "base.widht"),
        ("parent.yaml", 2, 16, "base.epochs"),
    ]


@pytest.mark.parametrize(
    ("extends", "message"),
    {
        "missing": ("nowhere.yaml", "no such file, got"),
        "near miss": ("parnt.yaml", '(did you mean "parent.yaml"?)'),
        "absolute": ("/etc/study.yaml", "must be relative to this file"),
        "not a study": ("../../etc/passwd", "must name a .yaml file"),
        "code": ("parent.py", "must name a .yaml file"),
        "address": ("http://host/parent.yaml", "no such file"),
        "number": ("3", "must name a .yaml file, got 3"),
        "list": ("[parent.yaml]", 'must name a .yaml file, got ["parent.yaml"]'),
        "null byte": ('"a\\0.yaml"', "must name a .yaml file"),
        "itself": ("child.yaml", "turns in a circle, back to"),
        "folder": ("folder.yaml", "not a regular file"),
    }.items(),
    ids=lambda case: case[0] if isinstance(case, tuple) else None,
)
def test_extends_names_a_study_file_beside_this_one(extends: str, message: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    target, fragment = message
    path = write(tmp_path, parent=PARENT, child=f"study: s\nextends: {target}\n")
    with pytest.raises(StudyError) as raised:
        load_study(path)
    (problem,) = raised.value.problems
    assert fragment in problem.message
    if extends != "folder":
        assert (problem.line, problem.column, problem.path) == (2, 10, "extends")


def test_a_circle_of_files_is_found_also_through_a_link(tmp_path: Path) -> None:
    path = write(tmp_path, a="extends: b.yaml\n", b="extends: c.yaml\n", c="extends: linked.yaml\n")
    (tmp_path / "linked.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(StudyError, match=r"b\.yaml:1:10: extends: turns in a circle, back to .*c\.yaml"):
        load_study(path)


def test_layers_are_limited(tmp_path: Path) -> None:
    files = {f"l{i}": f"extends: l{i + 1}.yaml\n" for i in range(20)} | {"l20": PARENT}
    write(tmp_path, **files)
    with pytest.raises(StudyError, match="at most 16 files deep"):
        load_study(tmp_path / "l0.yaml")
    assert load_study(tmp_path / "l5.yaml").study == "parent"
