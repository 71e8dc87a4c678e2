"""F20 and F21: study files that are broken, and study files that mean harm, through the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hostile_payloads import HOSTILE_ARGUMENTS, HOSTILE_FILES, HOSTILE_OVERRIDES, prepare_ground
from tests.faults.table import Table
from tests.study.file.test_malformed_studies import CASES, GOOD, Broken, one

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
SECONDS, MEGABYTES = 1.0, 200.0  # the bars of one malformed file


@dataclass(frozen=True)
class Answer:
    """What the command line said to one set of arguments; `seconds` are the processor's."""

    name: str
    code: int
    out: str
    err: str
    trace: str
    seconds: float
    peak_mb: float


def answers(tasks: Mapping[str, list[str]], cwd: Path, **environment: str) -> list[Answer]:
    """Run every command, all in one process."""
    lines = "".join(json.dumps({"name": name, "arguments": words}) + "\n" for name, words in tasks.items())
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.refusals"],
        input=lines,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Answer(**json.loads(line)) for line in done.stdout.splitlines()]


MORE: dict[str, Broken] = {
    "a hundred megabytes": one(b"# " + b"x" * 100_000_000, "1:1: ", "must be at most 1,048,576 bytes"),
    "a hundred megabytes of brackets": one(b"[" * 100_000_000, "1:1: ", "must be at most 1,048,576 bytes"),
    "nested 100,000 deep": one("study: " + "[" * 100_000, "1:71: ", "nested deeper than 64 levels"),
    "nested mappings without end": one(
        "".join(f"{' ' * n}a:\n" for n in range(300)), "65:65: ", "nested deeper than 64 levels"
    ),
    "bomb of mappings": one(
        "a: &a {x: 1, y: 2, z: 3}\n"
        + "".join(
            f"{b}: &{b} {{{', '.join(f'k{n}: *{a}' for n in range(9))}}}\n"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "",
        "at most 20,000 values, aliases expanded",
    ),
    "two thousand aliases": one(
        "study: &s x\nseeds: [" + ", ".join(["*s"] * 2000) + "]\n", "", "must use at most 1,000 aliases"
    ),
    "half a file": one(GOOD[: GOOD.index("[a_ssl") + 3].encode(), "4:14: ", "not YAML"),
    "a picture": one(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "1:1: ", "must be UTF-8"),
    "JSON with a comma too many": one('{"study": "x", "seeds": 1,,}', "1:27: ", "not YAML"),
    "Windows lines and a tab": one("study: x\r\nbase:\r\n\tepochs: 5\r\n", "3:1: ", "got a tab"),
}


@pytest.fixture(scope="module")
def malformed(tmp_path_factory: pytest.TempPathFactory) -> Iterable[dict[str, tuple[Broken, Path]]]:
    folder = tmp_path_factory.mktemp("malformed")
    files = {}
    for number, (name, case) in enumerate({**CASES, **MORE}.items()):
        path = folder / f"s{number}.yaml"
        path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
        files[name] = case, path
    yield files
    for _, path in files.values():
        path.unlink()


def test_a_malformed_study_is_one_line_with_its_place(
    malformed: dict[str, tuple[Broken, Path]], tmp_path: Path, seed: int, figures: Table
) -> None:
    """F20. Processor seconds and the growth of the process's peak are counted a file; imports are in the first one."""
    tasks = {"": ["plan", "--help"], "warm": ["plan", str(tmp_path / "none.yaml")]}
    tasks |= {name: ["plan", str(path)] for name, (_, path) in malformed.items()}
    _, warm, *told = answers(tasks, tmp_path)
    assert warm.code == 2
    traced, misplaced, slow = [], [], []
    for answer in told:
        case, path = malformed[answer.name]
        if answer.code != 2 or answer.trace or "Traceback" in answer.err + answer.out:
            traced.append(answer)
        lines = answer.err.splitlines()
        if len(lines) != len(case.says) or not all(
            any(line.startswith(f"{path}:{place}") and fragment in line for line in lines)
            for place, fragment in case.says
        ):
            misplaced.append((answer.name, answer.err[:500]))
        if answer.seconds >= SECONDS:
            slow.append((answer.name, answer.seconds))
    peak = told[-1].peak_mb
    figures.bad("F20", "malformed files with a traceback", len(traced), len(told))
    figures.bad("F20", "malformed files without their line", len(misplaced), len(told))
    figures.time("F20", "processor seconds of the slowest", max(answer.seconds for answer in told), "< 1 s")
    figures.share("F20", "memory of the process that read all", peak, "< 200 MB", "MB")
    assert len(told) >= 60
    assert not traced and not misplaced and not slow
    assert peak < MEGABYTES


def files_under(folder: Path, leaving_out: Path) -> dict[str, tuple[int, int]]:
    """Every file, link and folder below, with size and time of change, but those of one folder."""
    found = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(where, name) != leaving_out]
        for name in (*folders, *names):
            status = os.lstat(Path(where, name))
            found[str(Path(where, name))] = (status.st_size, status.st_mtime_ns if name in names else 0)
    return found


def test_a_hostile_study_is_data(tmp_path: Path, seed: int, figures: Table) -> None:
    """F21: every payload through `plan` and `run`, which must refuse it, run nothing and write nothing outside."""
    ground = tmp_path / "ground"
    canary = ground / "canary"
    work = prepare_ground(ground)
    tasks: dict[str, list[str]] = {}
    for name, text in HOSTILE_FILES.items():
        path = work / f"h{len(tasks)}.yaml"
        path.write_bytes(text.replace("CANARY", str(canary)).encode("utf-8", "surrogateescape"))
        tasks |= {f"plan {name}": ["plan", str(path)], f"run {name}": ["run", str(path), "--engine", "inline"]}
    good = work / "good.yaml"
    good.write_text(GOOD.replace("{epochs", "{dataset: mnist-mini, epochs"))
    for name, text in HOSTILE_OVERRIDES.items():
        words = [str(good), "--set", text.replace("CANARY", str(canary))]
        tasks |= {f"plan {name}": ["plan", *words], f"run {name}": ["run", *words, "--engine", "inline"]}
    for name, words in HOSTILE_ARGUMENTS.items():
        tasks[name] = [word.replace("CANARY", str(canary)) for word in words]
    payloads = len(HOSTILE_FILES) + len(HOSTILE_OVERRIDES) + len(HOSTILE_ARGUMENTS)

    home = ground / "home"
    before = files_under(ground, leaving_out=home)
    secret = {"HSSL_HOME": str(home), "TMPDIR": str(ground / "tmp"), "HOSTILE_SECRET": "c4n4ry-v4lue"}
    told = answers({"control": ["plan", str(good)], **tasks}, work, **secret)
    assert told[0].code == 0, told[0].err
    accepted = [answer.name for answer in told[1:] if answer.code != 2]
    traced = [answer.name for answer in told if answer.trace or "Traceback" in answer.err]
    leaked = [answer.name for answer in told if "c4n4ry-v4lue" in answer.out + answer.err]
    outside = files_under(ground, leaving_out=home).items() ^ before.items()
    figures.bad("F21", "hostile payloads executed", int(canary.exists()), payloads)
    figures.bad("F21", "hostile payloads accepted", len(accepted), payloads)
    figures.bad("F21", "files written outside the home", len(outside), payloads)
    assert payloads >= 100
    assert not canary.exists() and not outside
    assert not accepted and not traced and not leaked
    assert not list(home.rglob("*.jsonl")), "no study was opened"


def test_the_watch_over_files_sees_one(tmp_path: Path) -> None:
    before = files_under(tmp_path, leaving_out=tmp_path / "home")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "inside").touch()
    assert files_under(tmp_path, leaving_out=tmp_path / "home") == before
    (tmp_path / "outside").touch()
    assert files_under(tmp_path, leaving_out=tmp_path / "home") != before


def test_a_command_that_runs_a_payload_is_seen(tmp_path: Path) -> None:
    """The same tags in PyYAML's unsafe loader do what they say: the payloads are not blanks."""
    yaml: Any = pytest.importorskip("yaml")
    canary = tmp_path / "canary"
    text = HOSTILE_FILES["tag: os.system in base"].replace("CANARY", str(canary))
    yaml.unsafe_load(text)
    assert canary.exists()
