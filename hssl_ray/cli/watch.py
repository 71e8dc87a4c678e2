"""`hssl-ray status STUDY --watch`: a study as it goes, on a terminal in place, elsewhere a line for every change."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hssl_ray.cli.printed import as_rich, console
from hssl_ray.cli.programs import again
from hssl_ray.data.home import home
from hssl_ray.report.watched import Commands, Watched, count, news
from hssl_ray.study.metrics import LESS_IS_BETTER
from hssl_ray.study.spec import Study, load_study
from hssl_ray.study.watch import StudyWatch

LOOK_SECONDS = 1.0


def watch(study: Path, overrides: Sequence[str]) -> None:
    """Show the study until it is done, until the run that is watched ends in order, or until Ctrl-C."""
    to, loaded = console(), load_study(study, overrides, large=True)
    commands = Commands(run=again("run", study, overrides), compare=again("compare", study, overrides))
    looks = watched(loaded, home(), commands)
    with contextlib.suppress(KeyboardInterrupt):
        _in_place(to, looks) if to.is_terminal else _line_by_line(to, looks)


def watched(
    study: Study, root: Path, commands: Commands, wait: Callable[[float], None] = time.sleep
) -> Iterator[Watched]:
    """One look after the other; the last one is of a study that is done or of a run that has ended."""
    asked = study.search
    metric = asked.metric if asked else study.compare.metric
    less = asked.goal == "minimize" if asked else metric in LESS_IS_BETTER
    watching = StudyWatch(root, study.study, metric, less_is_better=less)
    before: Watched | None = None
    while True:
        look = watching.look()
        counted = (
            before.counted
            if before and look.states is before.look.states and look.running == before.look.running
            else count(look, study.study)
        )
        now = Watched(
            study=study.study,
            total=study.trial_count,
            open_ended=asked is not None or study.race is not None,
            metric=metric,
            look=look,
            counted=counted,
            commands=commands,
        )
        yield now
        released = look.driver is None and before is not None and before.look.alive
        if now.done or released:
            return
        before = now
        wait(LOOK_SECONDS)


def _line_by_line(to: Console, looks: Iterator[Watched]) -> None:
    before = now = None
    for now in looks:
        for line in news(before, now):
            to.print(Text(line), soft_wrap=True)
        before = now
    if before is not None:
        to.print(Text(before.counted.sentence()), soft_wrap=True)


def _in_place(to: Console, looks: Iterator[Watched]) -> None:
    with Live(console=to, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for now in looks:
            live.update(view(to, now), refresh=True)


def view(to: Console, now: Watched) -> RenderableType:
    """What a terminal shows of one look."""
    where, *more = now.sentences()
    head = Text.assemble((f"{now.study}  ", "bold cyan"), (where, "bold"))
    return Group(head, *map(Text, more), *(part for table in now.tables() for part in ("", *as_rich(to, table))))
