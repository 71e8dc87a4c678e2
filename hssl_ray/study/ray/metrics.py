"""A study's numbers as metrics of the Ray cluster, where Prometheus finds them under `ray_hssl_...`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ray.util.metrics import Counter, Gauge

from hssl_ray.study.live import FAMILIES, Sample

EVERY_SECONDS = 5.0


class Exporter:
    """Sets Ray's gauges and counters to samples."""

    def __init__(self) -> None:
        self._labels = {family.name: family.labels for family in FAMILIES}
        self._gauges = {f.name: Gauge(f.name, f.help, f.labels) for f in FAMILIES if f.kind == "gauge"}
        self._counters = {f.name: Counter(f.name, f.help, f.labels) for f in FAMILIES if f.kind == "counter"}
        self._counted: dict[Sample, float] = {}

    def export(self, samples: Mapping[Sample, float]) -> None:
        """Take over every value; a counter grows by what is new."""
        for (name, values), value in samples.items():
            tags = dict(zip(self._labels[name], values, strict=True))
            if name in self._gauges:
                self._gauges[name].set(value, tags)
            elif (grown := value - self._counted.get((name, values), 0.0)) > 0:
                self._counters[name].inc(grown, tags)
                self._counted[name, values] = value


@contextmanager
def exported(samples: Callable[[], Mapping[Sample, float]], every: float = EVERY_SECONDS) -> Iterator[None]:
    """Export samples for as long as the block runs, and how it ended; connected to Ray all the time."""
    exporter, done = Exporter(), threading.Event()

    def repeat() -> None:
        while not done.is_set():
            exporter.export(samples())
            done.wait(every)
        exporter.export(samples())

    thread = threading.Thread(target=repeat, name="hssl-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
