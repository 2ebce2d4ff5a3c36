"""Read models as edges and the command line read them: documents, Lists, views of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from eventlog.events import SessionStarted
from eventlog.keys import LIVE_RUN, RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import SEALED, Position
from eventlog.readmodel.documents import Document, ListedFinal, decode_document, decode_final, stitch
from eventlog.redis.scripts import script
from eventlog.redis.server import Call, Server

RUNS_PER_CALL = 100
"""Half a millisecond of Redis's time, and one of the caller's loop."""

_MS = 1000


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """State and numbers of one run of a session."""

    session_id: str
    run: str
    state: str
    """CREATED, ACTIVE, CLOSING (the client has ended it, and its last words are being processed) or CLOSED."""
    tenant_id: str = ""
    language: str = ""
    engine: str = ""
    encoding: str = ""
    sample_rate: int = 0
    channels: int = 1
    opened_ms: int = 0
    age_s: float = 0.0
    """Since it was opened, by Redis's clock."""
    last_ms: int = 0
    """Of the last fact, Unix ms."""
    ended_ms: int | None = None
    reason: str | None = None
    """Why it ended; of a run that isn't over ``quarantined``, if it is."""
    detail: str | None = None
    """Why it failed, or was quarantined, for a person."""
    finals: int = 0
    audio_seconds: float = 0.0
    """Appended so far while it is open, processed in all once it is closed."""
    lag_seconds: float = 0.0
    """Audio that is appended and in no commit yet: that under way at a worker, and the open utterance."""


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """A run's transcript as far as it exists now."""

    is_final: bool
    """True once the document is written."""
    transcript: str
    utterances: list[ListedFinal]
    cleaned: str | None = None
    """The readable text; None until the document is written, since later words may change how a sentence reads."""
    run: str = LIVE_RUN
    """The run that it is of."""


async def read_document(server: Server, keys: RunKeys) -> Document | None:
    """The stitched document of a run, None until it is written.

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
    """The document once it is written, else the List so far; None for an unknown run.

    Of the live run these are what readers receive: the promoted run's. See `runs` for a certain run's own.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    document = await read_document(server, keys)
    if document is not None:
        return to_transcript(document)
    finals = await read_list(server, keys)
    if not finals and not await server.execute("EXISTS", keys.transcript):
        return None
    return Transcript(is_final=False, transcript=stitch(finals), utterances=finals)


def to_transcript(document: Document) -> Transcript:
    """The transcript of a run that is over."""
    return Transcript(
        is_final=True, transcript=document.transcript, utterances=document.utterances, cleaned=document.cleaned,
        run=document.run,
    )


async def read_boundary(server: Server, keys: RunKeys) -> int:
    """Up to where a run is processed and committed, in samples; 0 while it isn't begun.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    boundaries = await server.execute("HGET", keys.checkpoint, "boundaries")
    return min(msgspec.json.decode(boundaries, type=list[int]), default=0) if boundaries else 0


async def read_view(server: Server, keys: RunKeys) -> SessionView | None:
    """State and numbers of a run, None for an unknown run.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    [view] = await read_views(server, [keys])
    return view


async def read_views(server: Server, runs: Sequence[RunKeys]) -> list[SessionView | None]:
    """State and numbers of each run, None for unknown ones.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    numbered = list(enumerate(runs))
    groups = server.groups(numbered, lambda item: item[1].partition.number)
    calls = [Call(script("read_views"), _keys_of_views(run for _, run in group), []) for group in groups]
    views: list[SessionView | None] = [None] * len(numbered)
    for group, answer in zip(groups, await server.run_many(calls), strict=True):
        if isinstance(answer, LogUnavailableError):
            raise answer
        now_ms = int(answer[0])
        for (number, _), one in zip(group, answer[1:], strict=True):
            views[number] = _view(one[0], one[1], one[2], now_ms)
    return views


async def sum_views(server: Server, runs: Sequence[RunKeys]) -> list[list[int]]:
    """The runs' numbers added up in several parts, each as ``sum_views.lua`` says; one round trip for all.

    Raises:
        LogUnavailableError: if Redis can't be reached.
    """
    calls: list[Call] = []
    for group in server.groups(runs, lambda run: run.partition.number):
        for first in range(0, len(group), RUNS_PER_CALL):
            calls.append(Call(script("sum_views"), _keys_of_views(group[first : first + RUNS_PER_CALL]), []))
            await asyncio.sleep(0)  # a thousand runs' keys take some milliseconds to make, in which no frame may wait
    answers = await server.run_many(calls)
    for answer in answers:
        if isinstance(answer, LogUnavailableError):
            raise answer
    return answers


def _keys_of_views(runs: Iterable[RunKeys]) -> list[str]:
    return [key for run in runs for key in (run.view, run.session.session, run.checkpoint)]


def view_of_start(start: SessionStarted, run: str) -> SessionView:
    """The view of a session whose projection hasn't written one yet."""
    return SessionView(
        session_id=start.session_id, run=run, state="CREATED", tenant_id=start.tenant_id, language=start.language,
        engine=start.engine, encoding=start.encoding, sample_rate=start.sample_rate_hz, channels=start.channels,
        opened_ms=start.started_ms, last_ms=start.started_ms,
    )  # fmt: skip


def _view(flat: Sequence[bytes], guard: bytes, cursor: bytes, now_ms: int) -> SessionView | None:
    if not flat:
        return None
    pairs = zip(flat[::2], flat[1::2], strict=True)
    # An empty reason: it was quarantined, and continues.
    fields = {name.decode(): value.decode() for name, value in pairs if value or name not in {b"reason", b"detail"}}
    view = msgspec.convert(fields, SessionView, strict=False)
    age_s = max(0.0, round((now_ms - view.opened_ms) / _MS, 3))
    if view.state == "CLOSED" or not guard or not view.sample_rate:
        return msgspec.structs.replace(view, age_s=age_s)
    consumed = Position.parse(cursor or b"0-0")
    # The end's id says nothing of where it is; until the view has it, the last final does.
    processed = 0 if consumed == SEALED else consumed.offset
    end = Position.parse(guard.partition(b" ")[2])
    appended = processed if end == SEALED else end.offset
    return msgspec.structs.replace(
        view,
        state="CLOSING" if end == SEALED else view.state,
        age_s=age_s,
        audio_seconds=max(view.audio_seconds, round(appended / view.sample_rate, 3)),
        lag_seconds=max(0.0, round((appended - processed) / view.sample_rate, 3)),
    )
