"""A process's numbers for Prometheus: one registry, what calls of Redis take, and readings taken when somebody asks.

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

from eventlog.log import LogUnavailableError

if TYPE_CHECKING:
    from types import TracebackType

# A second series for each counter and histogram, of when it began: twice the size, and nobody asks.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

CALL_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""From a round trip on one machine to the longest that a call may take."""

OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Reading(NamedTuple):
    """One metric as it is now."""

    kind: Literal["gauge", "counter"]
    name: str
    """With its unit last; a counter's without ``_total``."""
    help: str
    value: float = 0.0
    label: str = ""
    """The name of its one label, if it has one; then `values` hold."""
    values: Mapping[str, float] = MappingProxyType({})


Read = Callable[[], Iterable[Reading]]


class Meter:
    """The metrics of one process and one connection pool: handed on with the `Server`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "stenolog_redis_call_duration_seconds", "Round trips, by the script or command in them (several kinds: mixed).",
            ["call"], buckets=CALL_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._unavailable = Counter(
            "stenolog_redis_unavailable", "Round trips that failed since Redis could not be reached or served.",
            ["call"], registry=self.registry,
        )  # fmt: skip
        self._connected = Counter(
            "stenolog_redis_connections_opened", "Connections made: a rise after the start is reconnects.",
            registry=self.registry,
        )  # fmt: skip
        self._kinds: dict[str, tuple[Callable[[float], None], Callable[[], None]]] = {}

    def call(self, kind: str) -> Timed:
        """Time one round trip; a failure is counted too."""
        known = self._kinds.get(kind)  # looking up labels costs as much as the rest
        if known is None:
            known = self._kinds[kind] = (self._seconds.labels(kind).observe, self._unavailable.labels(kind).inc)
        return Timed(*known)

    async def on_connect(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's connections have no common public type
        """Count a connection that redis-py just made, and go on with what it does then."""
        self._connected.inc()
        await connection.on_connect()

    def read_when_asked(self, read: Read) -> None:
        """Have `read` called at each scrape, perhaps in another thread."""
        self.registry.register(_Readings(read))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics as the scraper likes them, and their media type."""
        if OPENMETRICS in accept:
            return bytes(openmetrics.generate_latest(self.registry)), OPENMETRICS_TYPE  # type: ignore[no-untyped-call]
        return prometheus_client.generate_latest(self.registry), TEXT_TYPE


class Timed:
    """A context manager that tells how long its body took; one of its own, since a generator's costs twice as much."""

    __slots__ = ("_failed", "_observe", "_started")

    def __init__(self, observe: Callable[[float], None], failed: Callable[[], None] | None = None) -> None:
        """`observe` gets the seconds, whatever happens; `failed` is called if Redis was away."""
        self._observe = observe
        self._failed = failed
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._observe(time.perf_counter() - self._started)
        if self._failed and isinstance(error, LogUnavailableError):
            self._failed()


class _Readings(Collector):
    def __init__(self, read: Read) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: what is read may not be there yet when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What there is now."""
        for one in self._read():
            make = GaugeMetricFamily if one.kind == "gauge" else CounterMetricFamily
            if not one.label:
                yield make(one.name, one.help, value=one.value)
                continue
            family = make(one.name, one.help, labels=[one.label])
            for value, number in one.values.items():
                family.add_metric([value], number)
            yield family
