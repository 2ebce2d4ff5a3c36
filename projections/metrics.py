"""What a process of projections counts and measures for Prometheus."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Histogram

from eventlog.log import LogUnavailableError
from eventlog.redis.server import Server
from eventlog.telemetry.lag import Lag, read_lag
from eventlog.telemetry.metering import Reading

if TYPE_CHECKING:
    from projections.forwarding.forwarder import Forwarder
    from projections.projector import Projector

LOOK_S = 10.0
"""Between two looks at what waits, as often as scrapers come; some 200 answers of Redis, two milliseconds."""

APPLY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""A pull, a fold and an apply take some milliseconds."""

_log = logging.getLogger(__name__)


class ProjectionMetrics:
    """One process's histograms."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Measure in `registry`, or for nobody."""
        self._apply = Histogram(
            "stenolog_projection_apply_duration_seconds", "Rounds in which runs' facts were pulled, folded and applied.",
            ["projection"], buckets=APPLY_BUCKETS_S, registry=registry or CollectorRegistry(),
        )  # fmt: skip

    def applied(self, projection: str, seconds: float) -> None:
        """Note a round."""
        self._apply.labels(projection).observe(seconds)


class ProjectionCollector:
    """What is looked at when somebody asks, and the notices that wait, which are counted now and then."""

    def __init__(
        self, server: Server, projectors: Sequence[Projector], forwarders: Sequence[Forwarder] = ()
    ) -> None:
        """Look at `projectors` and `forwarders`, and at their groups in `server`."""
        self._forwarders = forwarders
        self._server = server
        self._projectors = projectors
        self._pending: dict[str, float] = {}
        self._lag = Lag(0.0, {})

    def __call__(self) -> Iterator[Reading]:
        """All of it, now; perhaps from another thread."""
        appliers = {one.projection.name: one.applier for one in self._projectors}
        yield Reading(
            "counter", "stenolog_projection_applied_facts", "Facts applied by this process.", label="projection",
            values={name: one.applied for name, one in appliers.items()},
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_projection_dead_lettered_facts", "Facts that could not be applied, set aside.",
            label="projection", values={name: one.dead_lettered for name, one in appliers.items()},
        )  # fmt: skip
        yield from self._forwarded()
        yield Reading(
            "gauge", "stenolog_projection_pending_notices",
            "Notices that no process of the projection has acked yet, in the whole deployment.",
            label="projection", values=self._pending,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_projection_lag_seconds", "Age of the oldest of them, in the whole deployment.",
            label="projection", values=self._lag.projections_s,
        )  # fmt: skip
        yield Reading(
            "gauge", "stenolog_unclaimed_run_seconds", "Age of the oldest run that no worker has taken yet.",
            self._lag.unclaimed_s,
        )  # fmt: skip

    def _forwarded(self) -> Iterator[Reading]:
        tallies = {one.sink.name: one.stats for one in self._forwarders}
        counters = (
            ("sink_forwarded_events", "Events that a sink has taken.", "forwarded"),
            ("sink_skipped_events", "Events of a sink that is off.", "skipped"),
            ("sink_retries", "Failures after which an event is tried again.", "retried"),
            ("sink_dead_letters", "Events set aside since they could not be forwarded.", "dead_lettered"),
        )
        gauges = (
            ("sink_partitions", "Partitions that this process forwards.", "partitions"),
            ("sink_waiting", "Runs and letters that wait for their next try.", "waiting"),
            ("sink_failing_seconds", "For how long the event that failed first has been failing.", "failing_s"),
        )
        for name, what, field in counters:
            values = {sink: float(getattr(tally, field)) for sink, tally in tallies.items()}
            yield Reading("counter", f"stenolog_{name}", what, label="sink", values=values)
        for name, what, field in gauges:
            values = {sink: float(getattr(tally, field)) for sink, tally in tallies.items()}
            yield Reading("gauge", f"stenolog_{name}", what, label="sink", values=values)

    async def keep_counting(self) -> None:
        """Count waiting notices until cancelled."""
        while True:
            try:
                self._pending, self._lag = await self.pending_notices(), await read_lag(self._server)
            except LogUnavailableError as error:
                _log.debug("notices not counted", extra={"error": error})
            except Exception:  # noqa: BLE001 - counting must not end with one trouble; it is told and tried again
                _log.exception("counting notices failed")
            await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311 - spread out, no secret

    async def pending_notices(self) -> dict[str, float]:
        """How many notices each projection of this process has before it.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        names = (*(one.projection.name for one in self._projectors), *(one.sink.name for one in self._forwarders))
        found: dict[str, float] = dict.fromkeys(names, 0)
        commands = [
            command for partition in self._server.keys.partitions
            for command in (("XINFO", "GROUPS", partition.changes), ("XLEN", partition.changes))
        ]  # fmt: skip
        answers = await self._server.execute_many(commands)
        for groups, length in zip(answers[::2], answers[1::2], strict=True):
            if isinstance(groups, Exception) or isinstance(length, Exception):
                continue  # no such stream yet, or its node is away
            for flat in groups:
                name, pending, behind = _group(flat)
                if name in found:
                    # Redis doesn't always know how far a group is; the whole stream is the most that it may be.
                    found[name] += pending + (length if behind is None else behind)
        return found


def _group(flat: list[Any]) -> tuple[str, int, int | None]:
    """Name, delivered and unacked, not delivered yet."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return fields[b"name"].decode(), fields[b"pending"], fields.get(b"lag")
