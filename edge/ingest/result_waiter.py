"""Waits for the outcome of a session's audio, on behalf of a request."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import msgspec

from edge import errors
from edge.auth.access import unknown_session
from edge.core import EdgeCore
from edge.errors import ApiError
from edge.ingest.live_types import CurrentTranscript
from edge.streams.fan_out import FeedCursor, Subscriber
from edge.websocket import messages
from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from eventlog.readmodel import views
from eventlog.readmodel.documents import Document, ListedFinal
from eventlog.readmodel.feed import ProvisionalAnswer

CATCH_UP_S = 1.0
"""Between two reads, in case a message was lost; also how soon a replica that shuts down ends its requests."""

LIST_RETRY_S = 0.02
"""Between two reads of the List, which follows the facts by less than a tenth of a second."""

FAILED = "failed"


class ResultWaiter(Subscriber):
    """Subscribes to a run while it is entered. Enter it before the append whose outcome it waits for."""

    def __init__(self, core: EdgeCore, keys: RunKeys) -> None:
        """Wait for the outcome of the run."""
        self._core = core
        self._keys = keys
        self._cursor = FeedCursor(keys, START, self)
        self._has_news = asyncio.Event()
        self._end_event: str | None = None
        self._is_gone = False
        self._quarantine_reason = ""
        """Empty unless the run is quarantined."""
        self._answers: dict[str, ProvisionalAnswer] = {}

    def __enter__(self) -> Self:
        self._core.fanout.add(self._cursor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._core.fanout.remove(self._cursor)

    @property
    def has_ended(self) -> bool:
        """Whether the feed has reported the session's end."""
        return self._end_event is not None

    async def wait_for_document(self, timeout_s: float) -> Document | None:
        """Return the stitched transcript; None if it does not exist in time, or this replica shuts down before.

        Raises:
            ApiError: `invalid_audio` if the recording cannot be decoded, `unknown_session` if it was erased,
                `quarantined` if it cannot be processed.
        """
        deadline = time.monotonic() + timeout_s
        document: Document | None = None
        while True:
            document = document or await self._read_document()
            if document is not None and (document.reason != FAILED or self.has_ended):
                break
            self._require_processing()
            if document is not None:
                self._core.fanout.catch_up(self._cursor)  # the feed's end has the reason of the failure
            if not await self._wait(deadline):
                break
        if document is not None and document.reason == FAILED:
            self._require_processing()
            raise ApiError(*errors.read_failure(messages.read_end_detail(self._end_event)))
        return document

    async def wait_for_answer(self, request: str, timeout_s: float) -> CurrentTranscript:
        """Return all text of the audio before this `ProvisionalRequested`; the known part of it after `timeout_s`.

        Raises:
            ApiError: `unknown_session` if it was erased, `quarantined` if it cannot be processed.
            LogUnavailableError: if Redis can't be reached.
        """
        deadline = time.monotonic() + timeout_s
        while request not in self._answers and not self.has_ended and await self._wait(deadline):
            self._require_processing()
        answer = self._answers.pop(request, None)
        finals = await views.read_list(self._core.server, self._keys)
        if answer is None:
            document = await self._read_document() if self.has_ended else None
            return CurrentTranscript(
                finals=document.utterances if document else finals, provisional=[], is_complete=document is not None
            )
        while len(finals) < answer.utterances and time.monotonic() < deadline:
            await asyncio.sleep(LIST_RETRY_S)
            finals = await views.read_list(self._core.server, self._keys)
        # An utterance that became final meanwhile is not open any more.
        still_open = [one for one in answer.provisional if one.end > _end(finals, one.channel)]
        return CurrentTranscript(
            finals=finals, provisional=still_open, is_complete=len(finals) >= answer.utterances
        )

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - see `Subscriber`
        """See `Subscriber`."""
        if last:
            self._end_event = body
        elif (reason := messages.describe_quarantine(body)) is not None:
            self._quarantine_reason = reason
        else:
            return
        self._has_news.set()

    def on_gone(self) -> None:
        """See `Subscriber`."""
        self._is_gone = True
        self._has_news.set()

    def on_answer(self, body: str) -> None:
        """See `Subscriber`."""
        answer = msgspec.json.decode(body, type=ProvisionalAnswer)
        self._answers[answer.request] = answer
        self._has_news.set()

    def on_document(self) -> None:
        """See `Subscriber`."""
        self._has_news.set()

    def _require_processing(self) -> None:
        if self._quarantine_reason:
            raise ApiError(errors.QUARANTINED, f"{self._quarantine_reason} (session {self._keys.session_id})")

    async def _read_document(self) -> Document | None:
        try:
            return await views.read_document(self._core.server, self._keys)
        except LogUnavailableError:
            return None  # the next read may succeed

    async def _wait(self, deadline: float) -> bool:
        """Wait for news, for `CATCH_UP_S` at most; False after the deadline, or if this replica shuts down.

        Raises:
            ApiError: `unknown_session` if the session was erased meanwhile.
        """
        if self._is_gone:
            raise unknown_session()
        left_s = deadline - time.monotonic()
        if left_s <= 0 or self._core.is_draining:
            return False
        try:
            async with asyncio.timeout(min(left_s, CATCH_UP_S)):
                await self._has_news.wait()
        except TimeoutError:
            self._core.fanout.catch_up(self._cursor)
        self._has_news.clear()
        return True


def _end(finals: list[ListedFinal], channel: int) -> float:
    return max((final.end for final in finals if final.channel == channel), default=-1.0)
