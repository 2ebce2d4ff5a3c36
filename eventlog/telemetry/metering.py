"""A process's metrics for Prometheus: one registry, the durations of Redis calls, and readings taken at the scrape.

Counters that rise with every chunk stay plain integers where they are counted; a `Reading` picks them up at the
scrape. Histograms are for what happens some hundred times a second at most: calls, flushes, commits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from types import TracebackType

# A second series for each counter and histogram, of when it began: twice the size, and no dashboard asks.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

CALL_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""From a round trip on one machine to the longest that a call may take."""

OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Reading(NamedTuple):
    """One metric's present value."""

    kind: Literal["gauge", "counter"]
    name: str
    """With its unit last; a counter's without ``_total``."""
    help: str
    value: float = 0.0
    label: str = ""
    """The name of its one label, if it has one; then `values` hold."""
    values: Mapping[str, float] = MappingProxyType({})


Reader = Callable[[], Iterable[Reading]]


class Meter:
    """The metrics of one process and one connection pool: handed on with the `Server`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        seconds = Histogram(
            "stenolog_redis_call_duration_seconds",
            "Round trips, by the script or command in them (several kinds: mixed).",
            ["call"], buckets=CALL_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        unavailable = Counter(
            "stenolog_redis_unavailable", "Round trips that failed since Redis could not be reached or served.",
            ["call"], registry=self.registry,
        )  # fmt: skip
        self._connected = Counter(
            "stenolog_redis_connections_opened", "Connections made: a rise after the start is reconnects.",
            registry=self.registry,
        )  # fmt: skip
        self.calls = _CallMetrics(seconds, unavailable)

    async def on_connect(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's connections have no common public type
        """Count a connection that redis-py just made, and continue as redis-py does."""
        self._connected.inc()
        await connection.on_connect()

    def add_reader(self, read: Reader) -> None:
        """Call `read` at each scrape, perhaps in another thread."""
        self.registry.register(_ReadingCollector(read))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that the scraper accepts, and its media type."""
        if OPENMETRICS in accept:
            return bytes(openmetrics.generate_latest(self.registry)), OPENMETRICS_TYPE  # type: ignore[no-untyped-call]
        return prometheus_client.generate_latest(self.registry), TEXT_TYPE


class _CallMetrics(dict[str, tuple[Callable[[float], None], Callable[[], None]]]):
    """By a round trip's name: what observes its seconds, and what counts it as unavailable.

    Kept, since looking up labels costs as much as the rest.
    """

    def __init__(self, seconds: Histogram, unavailable: Counter) -> None:
        super().__init__()
        self._seconds, self._unavailable = seconds, unavailable

    def __missing__(self, name: str) -> tuple[Callable[[float], None], Callable[[], None]]:
        found = self[name] = (self._seconds.labels(name).observe, self._unavailable.labels(name).inc)
        return found


class Timer:
    """A context manager that measures how long its body took; a class, since a generator's costs twice as much."""

    __slots__ = ("_observe", "_started")

    def __init__(self, observe: Callable[[float], None]) -> None:
        """`observe` gets the seconds, also if the body fails."""
        self._observe = observe
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._observe(time.perf_counter() - self._started)


class _ReadingCollector(Collector):
    def __init__(self, read: Reader) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the readings may not exist yet when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present readings as metrics."""
        for one in self._read():
            make = GaugeMetricFamily if one.kind == "gauge" else CounterMetricFamily
            if not one.label:
                yield make(one.name, one.help, value=one.value)
                continue
            family = make(one.name, one.help, labels=[one.label])
            for value, number in one.values.items():
                family.add_metric([value], number)
            yield family
