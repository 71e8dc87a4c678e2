"""Keeps a mirror in step with a study, off its path, and brings a study back from it.

What is mirrored is what lies on the disk, not what is told: an observer only notes which units may have changed, and a
thread compares and sends. So an outage costs nothing but time, and the next run sends what this one could not.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pyarrow import ArrowException

from hssl_ray.study.engine import NoObserver, Summary
from hssl_ray.study.file.problems import MirrorConflict, MirrorUnavailable
from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import LEDGER, OUTCOME, Outcome, running_driver
from hssl_ray.study.mirror import Index, Mirror, Stored, content_of
from hssl_ray.study.redaction import redact
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.checkpoint_files import FILES, MANIFEST, committed
from hssl_ray.trial.durable import iterate_log, read_json, write_whole
from hssl_ray.trial.journal import JOURNAL, Record

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
_TRIAL_ID = re.compile(r"[0-9a-f]{16}")  # a mirror may be written by others: its names choose no folder of ours
_CHECKPOINT_FILE = re.compile(r"(checkpoints/epoch-\d{5})/[a-z.]+")
MARK = ".mirrored"  # what of a unit the mirror had when it was last sent, so that nobody need ask it


def _unit_files(directory: Path) -> list[Path]:
    """What of a study's or a trial's folder is mirrored. The manifest of a checkpoint comes last, as it was written."""
    plain = [directory / name for name in (LEDGER, JOURNAL, "config.json", OUTCOME)]
    saved = [path / name for path in committed(directory) for name in (*sorted(FILES), MANIFEST)]
    return [path for path in plain if path.is_file()] + saved


def _shape(directory: Path) -> dict[str, list[int]]:
    """Size and time of each file: what changes when it does."""
    stats = {path: path.stat() for path in _unit_files(directory)}
    return {path.relative_to(directory).as_posix(): [one.st_size, one.st_mtime_ns] for path, one in stats.items()}


def _is_less(shape: Mapping[str, list[int]], there: Index) -> bool:
    """Whether a unit lacks what it can only lack by damage: lines of its log, its outcome, its newest checkpoint."""
    logs = [name for name in (LEDGER, JOURNAL) if name in there.files]
    newest = max((name for name in there.files if "/" in name), default="").rpartition("/")[0]
    return (
        not shape.keys() & {LEDGER, JOURNAL}
        or any(shape.get(name, [0])[0] < there.files[name].bytes for name in logs)
        or (OUTCOME in there.files and OUTCOME not in shape)
        or max((name for name in shape if "/" in name), default="").rpartition("/")[0] < newest
    )


@dataclass
class _Sent:
    index: Index
    shape: dict[str, list[int]] = field(default_factory=dict)


class Mirroring(NoObserver):
    """An observer that mirrors what it hears of. Its methods return at once and raise nothing.

    Args:
        mirror: where to.
        home: see `hssl_ray.data.home`.
        study: the study's name.
        every: seconds between two looks at what has changed.
    """

    def __init__(self, mirror: Mirror, home: Path, study: str, *, every: float = EVERY_SECONDS) -> None:
        self._mirror, self._home, self._every = mirror, home, every
        self._study = f"studies/{study}"
        self._sent: dict[str, _Sent] = {}
        self._changed: dict[str, None] = {}  # a set in the order of its making
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._away = False
        self._writers: set[str] = set()
        self._less: set[str] = set()
        self._refused: str | None = None
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="hssl-mirror", daemon=True)
        self._thread.start()

    # What the sweep tells

    def study_opened(self, study: Any, planned_count: int) -> None:
        self._note(self._study)

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        self._note(f"trials/{planned.trial_id}")

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        self._note(f"trials/{planned.trial_id}", self._study)

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        self._note(f"trials/{planned.trial_id}")

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self._note(f"trials/{planned.trial_id}", self._study)

    def study_closed(self, summary: Summary) -> None:
        self._note(self._study)

    # What the command line asks

    @property
    def unsynced(self) -> int:
        """Studies and trials of which the mirror may lack something."""
        return len(self._changed)

    @property
    def refused(self) -> str | None:
        """Why nothing is mirrored any more, if that is so."""
        return self._refused

    def close(self, timeout: float) -> bool:
        """Send what waits, for at most `timeout` seconds; whether the mirror has everything."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout)
        return not self._changed and self._refused is None

    # The thread

    def _note(self, *units: str) -> None:
        with self._lock:
            self._changed |= dict.fromkeys(units)

    def _run(self) -> None:
        closing = False
        while not closing and self._refused is None:
            closing = self._closing.wait(self._every)
            self._send_all()
        while self._changed and self._refused is None and time.monotonic() < self._deadline:
            time.sleep(min(1.0, self._every))
            self._send_all()

    def _send_all(self) -> None:
        """Every trial that may have changed, then the ledger as it was before: it never knows more than its trials."""
        with self._lock:
            waiting, self._changed = self._changed, {}
        path = self._home / self._study / LEDGER
        length = path.stat().st_size if path.exists() else 0
        failed = [unit for unit in waiting if unit != self._study and not self._try(unit)]
        if self._study in waiting and (failed or not self._try(self._study, length)):
            failed.append(self._study)
        self._note(*failed)
        if not failed and self._away:
            self._away = False
            log.info("the mirror answers again")

    def _try(self, unit: str, length: int | None = None) -> bool:
        try:
            self._send(unit, length)
        except MirrorConflict as error:
            if unit == self._study:
                self._refuse(error)
            # else two studies with one trial: the next round reads what is there
        except (OSError, ArrowException) as error:
            if not self._away:
                self._away = True
                log.warning("the mirror does not answer and is caught up with later (%s)", _said(error))
        except Exception as error:  # a newer version's index, or a fault of ours: neither may look like success
            log.exception("the mirror failed")
            self._refuse(error)
        else:
            return True
        self._sent.pop(unit, None)
        return False

    def _refuse(self, error: Exception) -> None:
        self._refused = f"{_said(error)}; nothing more is mirrored from here"
        log.error("%s", self._refused)

    def _send(self, unit: str, length: int | None) -> None:
        directory = self._home / unit
        shape = _shape(directory)
        mark = read_json(directory / MARK) or {}
        marked = mark.get("mirror") == self._mirror.name and mark.get("shape") == shape
        if not shape or (unit != self._study and marked and self._trusted):
            return
        sent = self._sent.get(unit) or self._remembered(unit, mark)
        if shape == sent.shape:
            return
        if _is_less(shape, sent.index):  # a home that is being deleted must not take its copy along
            if unit not in self._less:
                self._less.add(unit)
                log.warning("mirror: %s is less here than there, and stays there as it is", unit)
            return
        contents: dict[str, Iterator[bytes] | Stored] = {}
        for name, now in shape.items():
            known = sent.index.files.get(name)
            unchanged = known is not None and sent.shape.get(name) == now
            contents[name] = known if known and unchanged else content_of(directory / name, length or now[0])
        index = self._mirror.write(unit, contents, sent.index)
        if length is not None and shape[LEDGER][0] != length:
            shape = {}  # it has grown meanwhile
        self._sent[unit] = _Sent(index, shape)
        mark = {"mirror": self._mirror.name, "number": index.number, "shape": shape}
        (directory / MARK).write_text(json.dumps(mark), encoding="utf-8")  # a lost one costs a comparison

    @cached_property
    def _trusted(self) -> bool:
        """Whether marks can be believed unasked: the mirror has the study, so nobody has emptied it."""
        return self._mirror.index(self._study).number > 0

    def _remembered(self, unit: str, mark: dict[str, Any]) -> _Sent:
        """What an earlier run sent: by its mark, if the mirror's index is still the one it wrote."""
        index = self._mirror.index(unit)
        if unit == self._study:
            self._writers = self._writers or {index.writer, self._mirror.writer}
            if index.writer not in self._writers:  # after an outage of which somebody else saw the end first
                raise MirrorConflict(f"mirror: {unit} is being written from another home too")
        known = mark.get("mirror") == self._mirror.name and mark.get("number") == index.number
        return _Sent(index, mark["shape"] if known else {})


def restore_study(mirror: Mirror, home: Path, study: str) -> int:
    """Bring a home up to what the mirror has of a study; what the home has beyond that stays.

    Returns:
        How many trials were brought or continued.

    Raises:
        MirrorConflict: home and mirror have both gone on since they were last equal.
        MirrorUnavailable: the mirror does not answer, or its ledger is damaged, and the home has none of its own.
    """
    if running_driver(home, study) is not None:
        return 0  # whoever runs it here will say so
    ledger = study_folder(home, study) / LEDGER
    try:
        files = mirror.index(f"studies/{study}").files
        theirs = _newer(mirror, f"studies/{study}", files, ledger)
        if theirs is None and LEDGER in files and not ledger.exists():
            raise MirrorUnavailable(f"HSSL_MIRROR: the ledger of study {study} is damaged there")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, LEDGER)
            copy.write_bytes(theirs or b"")
            begun = dict.fromkeys(
                one["trial_id"] for path in (ledger, copy) for one in iterate_log(path) if _of_trial(one)
            )
        folders = [trial_folder(home, trial_id) for trial_id in begun]
        lacking = [one for one in folders if theirs is not None or not (one / JOURNAL).exists()]
        brought = sum(_bring_trial(mirror, workdir) for workdir in lacking)
    except (OSError, ArrowException) as error:
        if ledger.exists():
            log.warning("the mirror does not answer; the study goes on from what lies here (%s)", _said(error))
            return 0
        raise MirrorUnavailable(
            f"HSSL_MIRROR: does not answer ({_said(error)}), so it cannot be known whether study {study} has begun "
            "elsewhere; try again, or unset HSSL_MIRROR"
        ) from error
    if theirs is not None:
        write_whole(ledger, theirs)  # last, so that a restore that was cut short is begun again
    return brought


def _said(error: Exception) -> str:
    return redact(str(error).partition("\n")[0])


def _of_trial(event: dict[str, Any]) -> bool:
    return event.get("event") in ("started", "ended") and bool(_TRIAL_ID.fullmatch(event["trial_id"]))


def _newer(mirror: Mirror, unit: str, files: Mapping[str, Stored], path: Path) -> bytes | None:
    """A log as the mirror has it, if it goes on where the one here ends.

    Raises:
        MirrorConflict: each has what the other lacks.
    """
    theirs = mirror.content(unit, files[path.name]) if path.name in files else b""
    if theirs is None:
        log.warning("mirror: %s of %s is damaged, left out", path.name, unit)
        return None
    ours = path.read_bytes() if path.exists() else b""
    ours = ours[: ours.rfind(b"\n") + 1]
    if ours.startswith(theirs):
        return None
    if not theirs.startswith(ours):
        raise MirrorConflict(
            f"mirror: {path} and its copy have both gone on since they were last equal; unset HSSL_MIRROR to go on "
            f"from here, or move {path.parent} away to go on from the copy"
        )
    return theirs


def _bring_trial(mirror: Mirror, workdir: Path) -> bool:
    """Whether there was anything to bring. The journal comes last: with it a trial is complete."""
    unit = f"trials/{workdir.name}"
    files = mirror.index(unit).files
    try:
        journal = _newer(mirror, unit, files, workdir / JOURNAL)
    except MirrorConflict:  # trained in two places, to the same end
        return False
    for name in ("config.json", OUTCOME):
        if name in files and not (workdir / name).exists():
            _bring_file(mirror, unit, files[name], workdir / name)
    if journal is None:
        return False
    for name in sorted({found[1] for one in files if (found := _CHECKPOINT_FILE.fullmatch(one))}):
        parts = {Path(one).name: stored for one, stored in files.items() if one.startswith(f"{name}/")}
        _bring_checkpoint(mirror, unit, parts, workdir / name)
    write_whole(workdir / JOURNAL, journal)
    return True


def _bring_file(mirror: Mirror, unit: str, stored: Stored, path: Path) -> bool:
    content = mirror.content(unit, stored)
    if content is None:
        log.warning("mirror: %s of %s is damaged, left out", path.name, unit)
        return False
    write_whole(path, content)
    return True


def _bring_checkpoint(mirror: Mirror, unit: str, files: Mapping[str, Stored], target: Path) -> None:
    """A checkpoint, all of it or none; the loader finds an older one."""
    if target.exists() or set(files) != {*FILES, MANIFEST}:
        return
    building = target.with_name(f".{target.name}.mirror")
    if all(_bring_file(mirror, unit, stored, building / name) for name, stored in files.items()):
        building.rename(target)
