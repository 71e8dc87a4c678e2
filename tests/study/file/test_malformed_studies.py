"""Broken study files: the place, the rule and a suggestion for each mistake, all at once, never a traceback."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hssl_ray.cli.plan import plan
from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.spec import load_study

HEAD = "study: x\n"
GOOD = "study: x\nbase: {epochs: 5, warmup_epochs: 0}\ngrid:\n  method: [a_ssl, h_ssl]\n"


@dataclass(frozen=True)
class Broken:
    """A file's content, and for each mistake `line:column: path` with a fragment of its message."""

    content: str | bytes
    says: tuple[tuple[str, str], ...]


def one(content: str | bytes, place: str, fragment: str) -> Broken:
    return Broken(content, ((place, fragment),))


CASES = {
    # the text
    "empty file": one("", "1:1: ", "is empty"),
    "only comments": one("# nothing\n\n", "1:1: ", "is empty"),
    "top-level list": one("- study: x\n", "1:1: ", "must be a mapping of keys to values, got a list"),
    "top-level text": one("study\n", "1:1: ", 'must be a mapping of keys to values, got "study"'),
    "tab for indent": one("study: x\nbase:\n\tepochs: 5\n", "3:1: ", "YAML indents with spaces, got a tab"),
    "unclosed bracket": one("study: x\nseeds: [1, 2\n", "3:1: ", "not YAML"),
    "two colons": one("study: x\nbase: epochs: 5\n", "2:13: ", "not YAML: mapping values are not allowed here"),
    "latin-1": one("study: x\n# caf\xe9\n".encode("latin-1"), "2:6: ", "must be UTF-8, got byte 0xe9"),
    "byte order mark": one(b"\xef\xbb\xbfstudy: x\n", "1:1: ", "without a byte order mark"),
    "UTF-16": one("study: x\n".encode("utf-16"), "1:1: ", "must be UTF-8"),
    "control character": one("study: x\nseeds: \x07\n", "2:8: ", "control character U+0007"),
    "NUL bytes": one(b"study: x\n\0\0\0", "2:1: ", "control character U+0000"),
    "too large": one("# " + "x" * 2**20, "1:1: ", "must be at most 1,048,576 bytes"),
    "too deep": one("study: " + "[" * 100 + "]" * 100, "1:71: ", "nested deeper than 64 levels"),
    "too many values": one("study: x\nseeds: [" + "1, " * 30_000 + "1]\n", "2:60000: ", "at most 20,000 values"),
    "alias bomb": one(
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "5:12: ",
        "at most 20,000 values, aliases expanded",
    ),
    "alias of itself": one("study: x\nbase: &b {epochs: *b}\n", "2:19: ", "inside its own anchor"),
    "unknown alias": one("study: *name\n", "1:8: ", "no anchor &name"),
    "second document": one("study: x\n---\nstudy: y\n", "2:1: ", "one document"),
    "mapping as key": one("study: x\n? {a: 1}\n: 2\n", "2:3: ", "a key must be plain text"),
    "hopeless retry": one(
        "study: x\nresilience: {retry_on: [worker_lost, diverged]}\n",
        "2:24: resilience.retry_on",
        "diverged is never retried: the same trial diverges again",
    ),
    "unknown cause": one(
        "study: x\nresilience: {retry_on: [node_loss]}\n",
        "2:25: resilience.retry_on[0]",
        'got "node_loss" (did you mean "node_lost"?)',
    ),
    "backoff the wrong way round": one(
        "study: x\nresilience: {backoff: {first_seconds: 90}}\n",
        "2:23: resilience.backoff",
        "must be at least first_seconds = 90, got 60",
    ),
    "more workers than most": one(
        "study: x\nresources: {workers: 2, min_workers: 4}\n",
        "2:38: resources.min_workers",
        "must be at most workers = 2, got 4",
    ),
    "python tag": one('study: x\nbase: !!python/object/apply:os.system ["id"]\n', "2:7: ", "tags are not allowed"),
    "escape beyond Unicode": one('study: "\\UFFFFFFFF"\n', "1:1: ", "not YAML"),
    "lone surrogate": one('study: "\\uD800"\n', "1:8: ", "must be Unicode text"),
    "endless number": one("study: x\nseeds: " + "9" * 5000 + "\n", "2:8: ", "at most 100 characters"),
    "number beyond 64 bits": one("study: x\nseeds: 99999999999999999999\n", "2:8: ", "must fit in 64 bits"),
    "duplicate key": one(
        "study: x\nbase:\n  epochs: 5\n  epochs: 6\n  warmup_epochs: 0\n",
        "4:3: base.epochs",
        "given twice, first on line 3",
    ),
    "duplicate section": one(HEAD + "seeds: 1\nseeds: 2\n", "3:1: seeds", "given twice, first on line 2"),
    # keys and types
    "no name": one("seeds: 2\n", "1:1: study", "is required"),
    "unknown key": one(HEAD + "seed: 3\n", "2:1: seed", 'the top-level key "seeds"'),
    "unknown section": one(HEAD + "grids: {}\n", "2:1: grids", '(did you mean "grid"?)'),
    "unknown field": one(HEAD + "base:\n  temprature: 0.1\n", "3:3: base.temprature", '(did you mean "temperature"?)'),
    "nothing like a known key": one(
        HEAD + "resources: {zzz: 1}\n", "2:13: resources.zzz", "(known: workers, min_workers, cpus_per"
    ),
    "merge key": one(HEAD + "base: {<<: 1}\n", "2:8: base.<<", "no merge keys"),
    "seed in base": one(HEAD + "base: {seed: 1}\n", "2:8: base.seed", '"seeds"'),
    "text for a number": one(
        HEAD + "base: {epochs: five}\n", "2:16: base.epochs", 'must be a whole number, got "five"'
    ),
    "no is text": one(HEAD + "base: {epochs: no}\n", "2:16: base.epochs", 'must be a whole number, got "no"'),
    "true for a number": one(HEAD + "base: {epochs: true}\n", "2:16: base.epochs", "must be a whole number, got true"),
    "fraction for a count": one(HEAD + "base: {epochs: 1.5}\n", "2:16: base.epochs", "must be a whole number, got 1.5"),
    "empty value": one(HEAD + "base:\n  epochs:\n", "3:3: base.epochs", "must be a whole number, got nothing"),
    "list for a mapping": one(HEAD + "base: [1]\n", "2:7: base", "must be a mapping of keys to values, got [1]"),
    "value for a list": one(HEAD + "grid: {method: a_ssl}\n", "2:16: grid.method", "must be a list"),
    "name with a path": one("study: ../x\n", "1:8: study", "must start with a letter or digit"),
    "name too long": one(f"study: {'x' * 65}\n", "1:8: study", "up to 64"),
    "name is a number": one("study: 7\n", "1:8: study", "must be text, got 7"),
    # ranges
    "out of range": one(HEAD + "base: {width: 0}\n", "2:15: base.width", "must be above 0, got 0"),
    "infinite": one(HEAD + "base: {temperature: .inf}\n", "2:21: base.temperature", "must be a finite number, got inf"),
    "not a choice": one(HEAD + "base: {group: rotate}\n", "2:15: base.group", '(did you mean "rotation"?)'),
    "bad grid value": one(
        HEAD + "grid:\n  method: [a_ssl, hssl]\n", "3:19: grid.method[1]", 'got "hssl" (did you mean "h_ssl"?)'
    ),
    "empty grid list": one(HEAD + "grid: {method: []}\n", "2:16: grid.method", "must not be empty"),
    "negative seed": one(HEAD + "seeds: [0, -1]\n", "2:12: seeds[1]", "must be at least 0, got -1"),
    "no seeds": one(HEAD + "seeds: 0\n", "2:8: seeds", "must be at least 1, got 0"),
    "empty seeds": one(HEAD + "seeds: []\n", "2:8: seeds", "must not be empty"),
    "zero margin": one(GOOD + "compare: {margin: 0}\n", "5:19: compare.margin", "must be above 0, got 0"),
    "NaN margin": one(GOOD + "compare: {margin: .nan}\n", "5:19: compare.margin", "got nan"),
    "one checkpoint": one(HEAD + "checkpoints: {keep: 1}\n", "2:21: checkpoints.keep", "must be at least 2, got 1"),
    "unknown metric": one(
        HEAD + "compare: {metric: probe/top}\n", "2:19: compare.metric", '(did you mean "probe/top1"?)'
    ),
    "final metric for rungs": one(
        HEAD + "early_stop: {metric: probe/ridge_top1}\n", "2:22: early_stop.metric", "must be one of train/loss"
    ),
    # keys against each other
    "workers and batch": one(
        HEAD + "base: {batch_size: 250}\nresources: {workers: 4}\n",
        "3:22: resources.workers",
        "divide batch_size = 250, got 4",
    ),
    "workers and the default batch": one(
        HEAD + "resources: {workers: 3}\n", "2:22: resources.workers", "must divide batch_size = 4096, got 3"
    ),
    "workers and a searched batch": one(
        HEAD + "resources: {workers: 4}\nsearch: {trials: 2, space: {batch_size: {low: 100, high: 200, step: 10}}}\n",
        "2:22: resources.workers",
        "must divide batch_size = 110, got 4",
    ),
    "repeated grid value": one(
        HEAD + "grid: {width: [1, 0.5, 1.0]}\n", "2:24: grid.width[2]", "given twice, first as item 1"
    ),
    "repeated seed": one(HEAD + "seeds: [3, 4, 3]\n", "2:15: seeds[2]", "given twice, first as item 1, got 3"),
    "base and grid": one(
        HEAD + "base: {group: scale}\ngrid:\n  group: [scale]\n", "4:10: grid.group", "is set in base too"
    ),
    "grid and search": one(
        HEAD + "grid: {width: [1]}\nsearch: {trials: 2, space: {width: [1, 2]}}\n",
        "3:36: search.space.width",
        "is set in grid too",
    ),
    "|g0| too large": one(
        HEAD + "base:\n  group: rotation\n  base_size: 4\n",
        "4:14: base.base_size",
        "must be from 1 to |G| - 1 = 3 (group rotation), got 4",
    ),
    "|g0| too large in one cell": one(
        HEAD + "grid:\n  group: [rotation, scale]\n  base_size: [1, 5]\n",
        "4:18: grid.base_size[1]",
        "(cell h_ssl-rotation-base_size=5)",
    ),
    "distance beyond the diameter": one(
        HEAD + "base: {group: scale, max_distance: 1}\n", "2:36: base.max_distance", "at most scale's diameter 0.5596"
    ),
    "f_ssl without translation": one(HEAD + "base: {method: f_ssl, group: scale}\n", "2:30: base.group", "translation"),
    "f_ssl with the default group": one(
        HEAD + "base: {method: f_ssl}\n", "2:16: base.method", "makes the default of group wrong"
    ),
    "default against a setting": one(
        HEAD + "base: {epochs: 5}\n", "2:16: base.epochs", "makes the default of warmup_epochs wrong"
    ),
    "image too small": one(
        HEAD + "base: {image_size: 20}\n",
        "2:20: base.image_size",
        "needs a feature map of 7 x 7 cells or more, got 5 x 5 at 20",
    ),
    "compare with an absent method": one(
        GOOD + "compare: {baseline: supervised}\n",
        "5:21: compare.baseline",
        "must be a method of this study (a_ssl, h_ssl)",
    ),
    "compare with an unknown method": one(
        GOOD + "compare: {against: hssl}\n", "5:20: compare.against", '(did you mean "h_ssl"?)'
    ),
    "compare with itself": one(
        GOOD + "compare: {baseline: h_ssl}\n", "5:10: compare.against", "must differ from baseline, got h_ssl"
    ),
    "too many trials": one(HEAD + "seeds: 10001\n", "2:8: seeds", "10,001 trials in all; more than 10,000 need --yes"),
    "a billion trials": one(
        HEAD + "search: {trials: 100000, space: {width: [1]}}\nseeds: 10000\n",
        "2:18: search.trials",
        "1,000,000,000 trials",
    ),
    # search
    "no space": one(HEAD + "search: {trials: 3}\n", "2:9: search.space", "is required"),
    "empty space": one(HEAD + "search: {trials: 3, space: {}}\n", "2:28: search.space", "must not be empty"),
    "low above high": one(
        HEAD + "search:\n  trials: 3\n  space:\n    width: {low: 2, high: 1}\n",
        "5:27: search.space.width.high",
        "must be above low = 2.0, got 1.0",
    ),
    "low equals high": one(
        HEAD + "search: {trials: 3, space: {epochs: {low: 2, high: 2}}}\n",
        "2:52: search.space.epochs.high",
        "above low",
    ),
    "log of zero": one(
        HEAD + "search: {trials: 3, space: {temperature: {low: 0, high: 1, log: true}}}\n",
        "2:48: search.space.temperature.low",
        "must be above 0 for log: true",
    ),
    "NaN bound": one(
        HEAD + "search: {trials: 3, space: {temperature: {low: .nan, high: 1}}}\n",
        "2:48: search.space.temperature.low",
        "must be a finite number, got nan",
    ),
    "uneven step": one(
        HEAD + "search: {trials: 3, space: {width: {low: 0.5, high: 1, step: 0.3}}}\n",
        "2:62: search.space.width.step",
        "must divide high - low",
    ),
    "range of words": one(
        HEAD + "search: {trials: 3, space: {group: {low: 1, high: 2}}}\n", "2:36: search.space.group", "must be a list"
    ),
    "searched method": one(
        HEAD + "search: {trials: 3, space: {method: [a_ssl]}}\n", "2:29: search.space.method", "cannot be searched"
    ),
    "impossible choice": one(
        HEAD + "search: {trials: 3, space: {max_distance: [1, 2, 3]}}\n",
        "2:50: search.space.max_distance[2]",
        "at most rotation's diameter 2, got 3",
    ),
    "impossible end of a range": one(
        HEAD + "search: {trials: 3, space: {base_size: {low: 1, high: 9}}}\n",
        "2:55: search.space.base_size.high",
        "must be from 1 to |G| - 1 = 3",
    ),
    "bound outside the field's": one(
        HEAD + "search: {trials: 3, space: {width: {low: 1, high: 9}}}\n",
        "2:51: search.space.width.high",
        "must be at most 8, got 9",
    ),
    "no possible point": one(
        HEAD + "base: {base_size: 9}\nsearch: {trials: 3, space: {width: [1, 2]}}\n",
        "2:19: base.base_size",
        "must be from 1 to |G| - 1 = 3",
    ),
    # several at once
    "everything at once": Broken(
        "study: x/y\nbase:\n  epochs: ten\n  epochs: 10\n  widht: 1\ngrid:\n  method: [a, h_ssl]\nsaerch: 1\n",
        (
            ("1:8: study", "must start with"),
            ("3:11: base.epochs", 'got "ten"'),
            ("4:3: base.epochs", "given twice"),
            ("5:3: base.widht", '(did you mean "width"?)'),
            ("7:12: grid.method[0]", "must be one of a_ssl"),
            ("8:1: saerch", '(did you mean "search"?)'),
        ),
    ),
    "several rules of one trial": Broken(
        HEAD + "base:\n  base_size: 7\n  max_distance: 3\n  train_images: 5001\n",
        (
            ("3:14: base.base_size", "must be from 1 to |G| - 1 = 3"),
            ("4:17: base.max_distance", "diameter 2"),
            ("5:17: base.train_images", "multiple of the 10 classes"),
        ),
    ),
    # cases
    "cases as a mapping": one(GOOD + "cases: {group: scale}\n", "5:8: cases", "must be a list"),
    "no case": one(GOOD + "cases: []\n", "5:8: cases", "must not be empty"),
    "unknown key in a case": one(
        GOOD + "cases:\n  - {group: scale}\n  - {grup: scale}\n", "7:6: cases[1].grup", 'did you mean "group"?'
    ),
    "wrong value in a case": one(
        GOOD + "cases:\n  - {group: scale, base_size: [1, x]}\n", "6:35: cases[0].base_size[1]", "whole number"
    ),
    "rule broken in a case": one(
        GOOD + "cases:\n  - {group: scale}\n  - {group: rotation, base_size: [1, 4]}\n",
        "7:38: cases[1].base_size[1]",
        "must be from 1 to |G| - 1 = 3 (group rotation), got 4 (cell a_ssl-rotation-base_size=4 and 1 more)",
    ),
    "field in a case and in base": one(
        GOOD + "cases:\n  - {group: scale}\n  - {epochs: 6}\n", "7:14: cases[1].epochs", "is set in base too"
    ),
    "field in a case and in grid": one(
        GOOD + "cases: [{method: frozen}]\n", "5:18: cases[0].method", "is set in grid too"
    ),
    "value twice in a case": one(
        GOOD + "cases: [{group: [scale, scale]}]\n", "5:25: cases[0].group[1]", "given twice, first as item 1"
    ),
    "cases that overlap": one(
        GOOD + "cases:\n  - {group: scale, base_size: [1, 2]}\n  - {group: scale, base_size: 2}\n",
        "7:5: cases[1]",
        "repeats cell a_ssl-scale-base_size=2 of item 1",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_mistake_has_its_place_and_its_rule(case: Broken, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    with pytest.raises(StudyError) as raised:
        load_study(path)
    lines = str(raised.value).split("\n")
    assert len(lines) == len(case.says), lines
    for line, (place, fragment) in zip(lines, case.says, strict=True):
        assert line.startswith(f"{path}:{place}"), line
        assert fragment in line
        assert len(line) < len(str(path)) + 550


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_command_exits_with_2_and_prints_no_traceback(case: Broken, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(plan)
    path = tmp_path / "s.yaml"
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == len(case.says)
    assert case.says[0][1] in result.stderr


def test_the_good_file_of_these_cases_is_good(tmp_path: Path) -> None:
    """Negative control: what the broken files are made from."""
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    assert load_study(path).trial_count == 2


OVERRIDES = {
    "no value": ("base.epochs", "1:1: ", "must be KEY=VALUE"),
    "no key": ("=3", "1:1: ", "must be KEY=VALUE"),
    "unknown field": ("base.epoch=3", "1:1: base.epoch", '(did you mean "epochs"?)'),
    "unknown section": ("bse.epochs=3", "1:1: bse", '(did you mean "base"?)'),
    "wrong type": ("base.epochs=three", "1:13: base.epochs", 'must be a whole number, got "three"'),
    "wrong type inside a list": ("grid.width=[1, no]", "1:16: grid.width[1]", 'must be a number, got "no"'),
    "broken YAML": ("grid.width=[1", "1:14: grid.width", "not YAML"),
    "below a value": ("study.first=3", "1:1: study", "must be text"),
    "extends": ("extends=other.yaml", "1:1: extends", "can stand in a file alone"),
    "rule between fields": ("base.base_size=4", "1:16: base.base_size", "must be from 1 to |G| - 1 = 3"),
    "strange characters": ("base.\x1b[31m=3", "1:1: ", "must be KEY=VALUE"),
    "lone surrogate": ("base.epochs=\udcff", "1:13: base.epochs", "must be Unicode text"),
}


@pytest.mark.parametrize(("text", "place", "fragment"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_an_override_is_validated_like_the_file(text: str, place: str, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    with pytest.raises(StudyError) as raised:
        load_study(path, [text])
    (problem,) = raised.value.problems
    assert problem.file.startswith("--set ")
    assert str(problem).startswith(f"{problem.file}:{place}")
    assert fragment in problem.message
    assert problem.file.isprintable()


def test_mistakes_of_overrides_and_of_the_file_come_together(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD + "seeds: none\n")
    with pytest.raises(StudyError) as raised:
        load_study(path, ["nonsense", "base.width=0"])
    assert [problem.path for problem in raised.value.problems] == ["base.width", "", "seeds"]


def test_a_study_s_name_is_answered_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies" / "reduced").mkdir(parents=True)
    (tmp_path / "studies" / "reduced" / "table.yaml").write_text(GOOD)
    (tmp_path / "here.yml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    for name, file in {"table": "studies/reduced/table.yaml", "here": "here.yml"}.items():
        with pytest.raises(StudyError, match=rf'no such file \(did you mean "{re.escape(file)}"\?\)'):
            load_study(name)
    with pytest.raises(StudyError, match=r"no such file$"):
        load_study("unheard_of")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(GOOD)
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for name, reason in {
        "quikstart.yaml": 'no such file (did you mean "quickstart.yaml"?)',
        "elsewhere/quickstart.yaml": "no such file",
        ".": "not a regular file",
        "x" * 300 + ".yaml": "cannot be read: File name too long",
        "a\0b.yaml": "no such file",
        "loop.yaml": "",
    }.items():
        with pytest.raises(StudyError, match=r":1:1: ") as raised:
            load_study(tmp_path / name)
        assert reason in str(raised.value)
