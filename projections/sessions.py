"""`sessions`: state and numbers of each run, which live runs are open, and which replays a session has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventlog.events import (
    Fact,
    HoleNoted,
    ProgressNoted,
    RunQuarantined,
    RunRedriven,
    SessionEnded,
    SessionOpened,
    SourceNoted,
    UtteranceFinal,
)
from eventlog.keys import LIVE_RUN, RunKeys
from eventlog.projection.operations import Argument, Op, put_fields, rank, unrank, unrank_below
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.listings import OPEN_RANK
from projections.projection import Command
from projections.public_json import to_seconds

CREATED, ACTIVE, CLOSED = "CREATED", "ACTIVE", "CLOSED"
"""What facts can say of a session's life; CLOSING is known to its edge alone."""

QUARANTINED = "quarantined"
"""The `reason` of a run that isn't over and yet goes no further; `detail` says why."""

_MS = 1000


class Sessions:
    """A hash per run; per partition the open sessions, those that ended within the TTL, and each tenant's of both.

    A replay is no session: it is listed among its session's replays and nowhere else.
    """

    name = "sessions"
    linger_s = 0.5
    """Listings and metrics: read now and then, and with this pause most facts come several at once."""

    def __init__(self, *, session_ttl_s: int) -> None:
        """List ended runs for `session_ttl_s`, as long as their keys live."""
        self._ttl_ms = session_ttl_s * _MS

    def reads(self, pulled: RunFacts) -> Sequence[Command]:
        """The session's tenant, if it ends among these facts: it moves in its tenant's list then."""
        ends = pulled.keys.run == LIVE_RUN and any(isinstance(fact, SessionEnded) for _, fact in pulled.facts)
        return (("HMGET", pulled.keys.view, "tenant_id"),) if ends else ()

    def fold(self, pulled: RunFacts, answers: Sequence[Any]) -> list[Op]:
        """Put the fields that these facts state, the last one winning, and list the run where it belongs."""
        fields: dict[str, Argument] = {}
        ops: list[Op] = []
        for _, fact in pulled.facts:
            fields.update(_fields(fact))
            if pulled.keys.run != LIVE_RUN:
                if isinstance(fact, SessionOpened):
                    ops.append(rank(pulled.keys.session.replays, pulled.keys.run, fact.opened_ms, expires=True))
            elif isinstance(fact, SessionOpened):
                ops += self._opened(pulled.keys, fact)
            elif isinstance(fact, SessionEnded):
                [[tenant_id]] = answers
                ops += self._ended(pulled.keys, fact, str(fields.get("tenant_id", (tenant_id or b"").decode())))
        return [put_fields(pulled.keys.view, fields), *ops]

    def _opened(self, keys: RunKeys, fact: SessionOpened) -> list[Op]:
        partition = keys.partition
        return [
            rank(partition.open_runs, keys.member, fact.opened_ms, expires=False),
            rank(partition.tenant_runs(fact.tenant_id), keys.member, OPEN_RANK + fact.opened_ms, expires=True),
        ]

    def _ended(self, keys: RunKeys, fact: SessionEnded, tenant_id: str) -> list[Op]:
        partition, expired_ms = keys.partition, fact.ended_ms - self._ttl_ms
        of_tenant = partition.tenant_runs(tenant_id)
        return [
            unrank(partition.open_runs, keys.member),
            rank(partition.ended_runs, keys.member, fact.ended_ms, expires=True),
            unrank_below(partition.ended_runs, expired_ms),
            rank(of_tenant, keys.member, fact.ended_ms, expires=True),
            unrank_below(of_tenant, expired_ms),
        ]


def _fields(fact: Fact) -> dict[str, Argument]:
    match fact:
        case SessionOpened():
            return {
                "state": CREATED,
                "session_id": fact.session_id,
                "run": fact.run,
                "tenant_id": fact.tenant_id,
                "language": fact.language,
                "engine": fact.engine,
                "encoding": fact.encoding,
                "sample_rate": fact.sample_rate_hz,
                "channels": fact.channels,
                "opened_ms": fact.opened_ms,
                "last_ms": fact.opened_ms,
                "finals": 0,
                "audio_seconds": 0.0,
            }
        case RunQuarantined() | RunRedriven():
            reason, detail = (QUARANTINED, fact.reason) if isinstance(fact, RunQuarantined) else ("", "")
            return {"reason": reason, "detail": detail, "last_ms": fact.noted_ms}
        case SessionEnded():
            return {
                "state": CLOSED,
                "reason": fact.reason,
                **({"detail": fact.detail} if fact.detail else {}),
                "finals": fact.utterances,
                "audio_seconds": to_seconds(fact.audio_samples, fact.sample_rate_hz),
                "ended_ms": fact.ended_ms,
                "last_ms": fact.ended_ms,
            }
        case _:
            return _progress_fields(fact)


def _progress_fields(fact: SourceNoted | ProgressNoted | UtteranceFinal | HoleNoted) -> dict[str, Argument]:
    match fact:
        case SourceNoted():
            return {"channels": fact.channels, "sample_rate": fact.sample_rate_hz}
        case ProgressNoted():
            audio_seconds = to_seconds(fact.processed_samples, fact.sample_rate_hz)
            return {"state": ACTIVE, "audio_seconds": audio_seconds, "last_ms": fact.noted_ms}
        case UtteranceFinal():
            return {
                "state": ACTIVE,
                "finals": fact.utterance + 1,
                "audio_seconds": to_seconds(fact.decided_samples, fact.sample_rate_hz),
                "last_ms": fact.committed_ms,
            }
        case HoleNoted():
            return {"state": ACTIVE, "audio_seconds": to_seconds(fact.end_samples, fact.sample_rate_hz)}
