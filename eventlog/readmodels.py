"""Read models as edges and the command line read them: documents, Lists, views of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventlog.documents import Document, ListedFinal, decode_document, decode_final, stitch
from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import SEALED, Position
from eventlog.server import Argument, Server

_MS = 1000


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """State and numbers of one run of a session."""

    session_id: str
    run: str
    state: str
    """CREATED, ACTIVE or CLOSED."""
    tenant_id: str = ""
    language: str = ""
    engine: str = ""
    sample_rate: int = 0
    channels: int = 1
    opened_ms: int = 0
    last_ms: int = 0
    """Of the last fact, Unix ms."""
    ended_ms: int | None = None
    reason: str | None = None
    finals: int = 0
    audio_seconds: float = 0.0
    """Appended so far while it is open, processed in all once it is closed."""
    lag_seconds: float = 0.0
    """Audio that is appended and not yet processed."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers over all sessions; of ended ones those whose keys still live."""

    open: int
    ended: int
    audio_seconds: float
    """Of the open ones, as `lag_seconds` and `finals`."""
    lag_seconds: float
    finals: int


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a run's transcript now."""

    is_final: bool
    """True once the document is there."""
    transcript: str
    utterances: list[ListedFinal]


async def read_document(server: Server, keys: RunKeys) -> Document | None:
    """The stitched document of a run, None while there is none.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    data = await server.execute("GET", keys.document)
    return None if data is None else decode_document(data)


async def read_list(server: Server, keys: RunKeys) -> list[ListedFinal]:
    """The finals so far, in order.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    return [decode_final(entry) for entry in await server.execute("LRANGE", keys.list, 0, -1)]


async def read_transcript(server: Server, keys: RunKeys) -> Transcript | None:
    """The document if there is one, else what the List holds so far; None if nobody knows the run.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    document = await read_document(server, keys)
    if document is not None:
        return Transcript(is_final=True, transcript=document.transcript, utterances=document.utterances)
    finals = await read_list(server, keys)
    if not finals and not await server.execute("EXISTS", keys.transcript):
        return None
    return Transcript(is_final=False, transcript=stitch(finals), utterances=finals)


async def read_view(server: Server, keys: RunKeys) -> SessionView | None:
    """State and numbers of a run, None if nobody knows it.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    [view] = await _views(server, [keys])
    return view


async def list_sessions(server: Server, *, state: str | None = None, limit: int = 100) -> list[SessionView]:
    """Runs, the latest first: open ones before ended ones; those in `state` only, if given.

    The cost grows with `limit` and the number of partitions, not with the number of ended sessions.

    Raises:
        ValueError: if there is no such state.
        LogUnavailableError: if Redis can't be reached.
    """
    if state not in {None, "CREATED", "ACTIVE", "CLOSED"}:
        raise ValueError(f"no such state: {state!r}")
    found: list[SessionView] = []
    if state != "CLOSED":
        # CREATED ones may be behind any number of ACTIVE ones, and the other way round: all that are open are read.
        opened = await _latest(server, [partition.open_runs for partition in server.keys.partitions], None)
        found += [view for view in await _views(server, opened) if view and state in {None, view.state}]
    if state in {None, "CLOSED"} and len(found) < limit:
        ended = await _latest(server, [partition.ended_runs for partition in server.keys.partitions], limit)
        found += [view for view in await _views(server, ended) if view]
    return list({(view.session_id, view.run): view for view in found}.values())[:limit]


async def read_metrics(server: Server) -> Metrics:
    """Numbers over all sessions; costs a look at each open one.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    opened = await list_sessions(server, limit=_NO_LIMIT, state="CREATED")
    opened += await list_sessions(server, limit=_NO_LIMIT, state="ACTIVE")
    counts = await _all(server, [("ZCARD", partition.ended_runs) for partition in server.keys.partitions])
    return Metrics(
        open=len(opened),
        ended=sum(counts),
        audio_seconds=round(sum(view.audio_seconds for view in opened), 3),
        lag_seconds=round(sum(view.lag_seconds for view in opened), 3),
        finals=sum(view.finals for view in opened),
    )


_NO_LIMIT = 2**31 - 1


async def _latest(server: Server, keys: Sequence[str], limit: int | None) -> list[RunKeys]:
    stop = -1 if limit is None else limit - 1
    ranked: list[tuple[float, str]] = []
    for found in await _all(server, [("ZREVRANGE", key, 0, stop, "WITHSCORES") for key in keys]):
        ranked += [(float(score), member.decode()) for member, score in zip(found[::2], found[1::2], strict=True)]
    ranked.sort(reverse=True)
    return [server.keys.of_run(member) for _, member in ranked[:limit]]


async def _views(server: Server, runs: Sequence[RunKeys]) -> list[SessionView | None]:
    commands: list[tuple[Argument, ...]] = []
    for keys in runs:
        commands += (
            ("HGETALL", keys.view),
            ("HGET", keys.session.session, "guard"),
            ("HGET", keys.checkpoint, "cursor"),
        )
    answers = await _all(server, commands)
    return [_view(*answers[i : i + 3]) for i in range(0, len(answers), 3)]


def _view(fields: Mapping[bytes, bytes], guard: bytes | None, cursor: bytes | None) -> SessionView | None:
    if not fields:
        return None
    view = msgspec.convert(
        {name.decode(): value.decode() for name, value in fields.items()}, SessionView, strict=False
    )
    if view.state == "CLOSED" or guard is None or not view.sample_rate:
        return view
    processed = Position.parse(cursor or b"0-0").offset
    end = Position.parse(guard.partition(b" ")[2])
    appended = processed if end == SEALED else end.offset
    return msgspec.structs.replace(
        view,
        audio_seconds=max(view.audio_seconds, round(appended / view.sample_rate, 3)),
        lag_seconds=max(0.0, round((appended - processed) / view.sample_rate, 3)),
    )


async def _all(server: Server, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
    answers = await server.execute_many(commands)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer if isinstance(answer, LogUnavailableError) else LogUnavailableError(str(answer))
    return answers
