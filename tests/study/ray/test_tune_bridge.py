"""What the driver makes of Tune's events, with trials that only look like Tune's."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hssl_ray.study.engine import Observers
from hssl_ray.study.file.sections import Backoff, Resilience
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger
from hssl_ray.study.ray.tune_bridge import FALSE_STARTS, TuneBridge
from hssl_ray.study.ray.vigil import Vigil
from hssl_ray.study.sweep import Assignment, Sweep
from hssl_ray.trial.journal import Record
from hssl_ray.trial.pulse import Pulse, Seen
from tests.study.engine_programs import trial

AT_ONCE = Resilience(max_retries=1, backoff=Backoff(first_seconds=0))
OUT_OF_MEMORY = """Caught unexpected exception: 2 worker(s) were killed due to the node running low on memory. Memory on
the node was 5.48GB used / 23.54GB limit
Selected to kill: (Actor(aaaa): job ID=01000000, task name=ImplicitFunc.__init__, pid=10922, actual memory used=0.23GB)
Selected to kill: (Actor(bbbb): job ID=01000000, task name=ImplicitFunc.__init__, pid=10921, actual memory used=1.25GB)
"""


@dataclass
class Nodes:
    """Machines that write down whom they killed."""

    lost: set[str] = field(default_factory=set)
    killed: list[Seen] = field(default_factory=list)

    def kill(self, workers: list[Seen]) -> None:
        self.killed += workers

    def gone(self, node: str) -> bool:
        return node in self.lost


def bridge_to(
    sweep: Sweep, home: Path, nodes: Nodes | None = None, clock: Callable[[], float] = lambda: 0
) -> TuneBridge:
    return TuneBridge(sweep, Vigil(home, 60, clock), nodes or Nodes())


def tune_trial(seed: int, actor: str) -> Any:
    handle = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda: actor))
    config = {"trial_id": trial(seed).trial_id, "attempt": 1}
    return SimpleNamespace(config=config, temporary_state=SimpleNamespace(ray_actor=handle))


def test_the_process_that_took_the_memory_has_failed_and_its_neighbour_goes_on(tmp_path: Path) -> None:
    """Ray kills several processes at once, and Tune's loop breaks with them. A third trial was handed out and waits."""
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0), trial(1), trial(2)], ledger, Observers(()))
        bridge = bridge_to(sweep, tmp_path)
        for seed, actor in ((0, "aaaa"), (1, "bbbb")):
            sweep.next()
            bridge.start(tune_trial(seed, actor))
        waiting = sweep.next()
        assert bridge.cut_short(RuntimeError(OUT_OF_MEMORY))
        outcomes = ledger.history.outcomes
        assert outcomes[trial(0).trial_id].state == "killed"
        assert (outcomes[trial(1).trial_id].state, outcomes[trial(1).trial_id].cause) == ("failed", "oom")
        assert {sweep.next(), sweep.next()} == {Assignment(trial(0), 2), waiting}
        assert not isinstance(sweep.next(), Assignment)


def test_a_loop_that_breaks_without_an_end_is_not_tried_for_ever(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0)], ledger, Observers(()))
        bridge = bridge_to(sweep, tmp_path)
        sweep.next()
        bridge.start(tune_trial(0, "aaaa"))
        assert not bridge.cut_short(RuntimeError("something else"))


def test_what_the_trial_says_of_its_end_outweighs_what_tune_says(tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text("ray.exceptions.RayTaskError(RankFailed): ...")
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0), trial(1)], ledger, Observers(()))
        bridge = bridge_to(sweep, tmp_path)
        said = {"ending": json.dumps({"state": "failed", "reason": "oom: MemoryError: 3 GB"})}
        for seed in (0, 1):
            sweep.next()
            one = tune_trial(seed, "aaaa")
            one.error_file = str(tmp_path / "error.txt")
            bridge.start(one)
            if seed == 0:
                bridge.result(one, said)
            with Pulse(trial_folder(tmp_path, trial(seed).trial_id), 1):
                bridge.error(one)
        assert [ledger.history.outcomes[trial(seed).trial_id].cause for seed in (0, 1)] == ["oom", "worker_lost"]


def test_a_process_that_dies_before_its_trial_begins_costs_no_retry_a_few_times(tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text("The actor died because its node has died. Node Id: 1")
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0)], ledger, Observers(()), resilience=AT_ONCE)
        bridge = bridge_to(sweep, tmp_path)
        one = tune_trial(0, "aaaa")
        one.error_file = str(tmp_path / "error.txt")
        for attempt in range(1, FALSE_STARTS + 1):
            assert sweep.next() == Assignment(trial(0), attempt)
            bridge.error(one)
            assert ledger.history.outcomes[trial(0).trial_id].state == "killed"
        for attempt in (FALSE_STARTS + 1, FALSE_STARTS + 2):
            assert sweep.next() == Assignment(trial(0), attempt)
            bridge.error(one)
            assert ledger.history.outcomes[trial(0).trial_id].cause == "node_lost"
        assert sweep.next() is None


def test_records_pass_through_exactly(tmp_path: Path) -> None:
    """Also those that Tune would reshape: names with slashes, infinities."""
    record = Record(1, {"train/loss": float("inf"), "probe/top1": 0.1 + 0.2}, "checkpoints/epoch-00001")
    heard: list[Record] = []

    class Listener:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: heard.append(arguments[1]) if name == "trial_reported" else None

    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0)], ledger, Observers([Listener()]))
        bridge = bridge_to(sweep, tmp_path)
        sweep.next()
        bridge.start(tune_trial(0, "aaaa"))
        assert bridge.result(tune_trial(0, "aaaa"), {"record": json.dumps(asdict(record))}) == "continue"
    assert heard == [record]


def test_a_worker_without_a_pulse_is_killed_and_its_trial_tried_again_as_hung(tmp_path: Path) -> None:
    """What the ranks say when they are killed does not count. A trial that finished meanwhile has finished."""
    (tmp_path / "error.txt").write_text("The actor died unexpectedly")
    seconds, nodes = iter(range(0, 1000, 2)), Nodes()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0), trial(1)], ledger, Observers(()), resilience=AT_ONCE)
        bridge = bridge_to(sweep, tmp_path, nodes, lambda: next(seconds))
        for seed in (0, 1):
            sweep.next()
            bridge.start(tune_trial(seed, "aaaa"))
        with Pulse(trial_folder(tmp_path, trial(0).trial_id), 1, rank=1, node="n"):
            for _ in range(40):
                bridge.step()
        assert [(worker.rank, worker.node, worker.pid) for worker in nodes.killed] == [(1, "n", os.getpid())]
        one = tune_trial(0, "aaaa")
        one.error_file = str(tmp_path / "error.txt")
        bridge.result(one, {"ending": json.dumps({"state": "failed", "reason": "worker_lost: peer"})})
        bridge.error(one)
        assert ledger.history.outcomes[trial(0).trial_id].reason == "hung: no sign of worker 1 for 60 s"
        assert sweep.next() == Assignment(trial(0), 2)


def test_a_worker_lost_with_its_node_is_told_from_one_lost_alone(tmp_path: Path) -> None:
    nodes = Nodes(lost={"gone"})
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0), trial(1)], ledger, Observers(()))
        bridge = bridge_to(sweep, tmp_path, nodes)
        for seed, node in ((0, "gone"), (1, "here")):
            sweep.next()
            one = tune_trial(seed, "aaaa")
            bridge.start(one)
            with Pulse(trial_folder(tmp_path, trial(seed).trial_id), 1, node=node):
                bridge.result(one, {"ending": json.dumps({"state": "failed", "reason": "worker_lost: peer"})})
                bridge.complete(one)
        assert [ledger.history.outcomes[trial(seed).trial_id].cause for seed in (0, 1)] == ["node_lost", "worker_lost"]
