"""The metrics that a process of projections reads at each scrape, and the notices that it counts on a period."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from eventlog.redis.server import Server
from eventlog.telemetry.metering import Reading
from eventlog.work.lag import Lag, read_lag
from projections.forwarding.forwarder import Forwarder
from projections.projection_loop import ProjectionLoop

COUNT_S = 10.0
"""Between two counts of pending notices, as often as scrapers come; some 200 answers of Redis, two milliseconds."""


class ProjectionCollector:
    """The numbers of a process's loops and forwarders, and of their groups in the whole deployment."""

    def __init__(
        self, server: Server, loops: Sequence[ProjectionLoop], forwarders: Sequence[Forwarder] = ()
    ) -> None:
        """Read `loops` and `forwarders`, and their groups in `server`."""
        self._forwarders = forwarders
        self._server = server
        self._loops = loops
        self._pending: dict[str, float] = {}
        self._lag = Lag(0.0, {})

    def __call__(self) -> Iterator[Reading]:
        """All of it, now; perhaps from another thread."""
        appliers = {one.projection.name: one.applier for one in self._loops}
        yield Reading(
            "counter", "stenolog_projection_applied_facts", "Facts applied by this process.", label="projection",
            values={name: one.applied for name, one in appliers.items()},
        )  # fmt: skip
        yield Reading(
            "counter", "stenolog_projection_dead_lettered_facts", "Facts that could not be applied, dead-lettered.",
            label="projection", values={name: one.dead_lettered for name, one in appliers.items()},
        )  # fmt: skip
        yield from self._of_sinks()
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

    def _of_sinks(self) -> Iterator[Reading]:
        rows: tuple[tuple[Literal["counter", "gauge"], str, str, str], ...] = (
            ("counter", "stenolog_sink_forwarded_events", "Events that a sink has taken.", "forwarded"),
            ("counter", "stenolog_sink_skipped_events", "Events of a sink that is off.", "skipped"),
            ("counter", "stenolog_sink_retries", "Failures after which an event is tried again.", "retried"),
            (
                "counter", "stenolog_sink_dead_letters", "Events dead-lettered since they could not be forwarded.",
                "dead_lettered",
            ),
            ("gauge", "stenolog_sink_partitions", "Partitions that this process forwards.", "partitions"),
            ("gauge", "stenolog_sink_waiting", "Runs and dead letters that wait for their next try.", "waiting"),
            (
                "gauge", "stenolog_sink_failing_seconds", "For how long the event that failed first has been failing.",
                "failing_s",
            ),
        )  # fmt: skip
        stats = {one.sink.name: one.stats for one in self._forwarders}
        for kind, name, text, field in rows:
            values = {sink: float(getattr(one, field)) for sink, one in stats.items()}
            yield Reading(kind, name, text, label="sink", values=values)

    async def count_notices(self) -> None:
        """Count the pending notices, and measure the oldest one's age, for the next scrapes.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        self._pending, self._lag = await self.pending_notices(), await read_lag(self._server)

    async def pending_notices(self) -> dict[str, float]:
        """How many notices each projection of this process has before it.

        Raises:
            LogUnavailableError: if Redis can't be reached.
        """
        names = (*(one.projection.name for one in self._loops), *(one.sink.name for one in self._forwarders))
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
