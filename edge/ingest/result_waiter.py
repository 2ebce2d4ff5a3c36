"""What becomes of a session's audio, for a request that waits for it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from edge import errors
from edge.auth.access import unknown_session
from edge.errors import ApiError
from edge.ingest.live_types import SoFar
from edge.streams.fan_out import Listener, Subscriber
from edge.websocket import messages
from eventlog.keys import RunKeys
from eventlog.log import LogUnavailableError
from eventlog.positions import START, Position
from eventlog.readmodel import views
from eventlog.readmodel.documents import Document, ListedFinal
from eventlog.readmodel.feed import ProvisionalAnswer

if TYPE_CHECKING:
    from edge.core import EdgeCore

LOOK_S = 1.0
"""Between two looks, in case a message was lost; also how soon a replica that shuts down lets its requests go."""

LIST_LOOK_S = 0.02
"""Between two looks at the List, which follows the facts by less than a tenth of a second."""

FAILED = "failed"


class ResultWaiter(Subscriber):
    """A listener for as long as it is entered; it must be before that is appended whose outcome it waits for."""

    def __init__(self, core: EdgeCore, keys: RunKeys) -> None:
        """Wait for what becomes of the run."""
        self._core = core
        self._keys = keys
        self._listener = Listener(keys, START, self)
        self._news = asyncio.Event()
        self._last: str | None = None
        self._is_gone = False
        self._aside = ""
        """Why the run is set aside, if it is."""
        self._answers: dict[str, ProvisionalAnswer] = {}

    def __enter__(self) -> Self:
        self._core.fanout.add(self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._core.fanout.remove(self._listener)

    @property
    def has_ended(self) -> bool:
        """Whether the session's end was heard of."""
        return self._last is not None

    async def document(self, wait_s: float) -> Document | None:
        """The stitched transcript; None if it isn't there in time, or this replica shuts down before.

        Raises:
            ApiError: `invalid_audio` if the recording couldn't be decoded, `unknown_session` if it was erased, `set_aside`
                if it can't be processed.
        """
        deadline = time.monotonic() + wait_s
        document: Document | None = None
        while True:
            document = document or await self._read_document()
            if document is not None and (document.reason != FAILED or self._last is not None):
                break
            self._require_processing()
            if document is not None:
                self._core.fanout.look(self._listener)  # for why it failed, which the feed's end tells
            if not await self._wait(deadline):
                break
        if document is not None and document.reason == FAILED:
            self._require_processing()
            raise ApiError(errors.INVALID_AUDIO, messages.end_detail(self._last) or "the recording can't be decoded")
        return document

    async def answer(self, request: str, wait_s: float) -> SoFar:
        """All that can be said before the `ProvisionalAsked` that has this name; what is there, if that takes too long.

        Raises:
            ApiError: `unknown_session` if it was erased, `set_aside` if it can't be processed.
            LogUnavailableError: if Redis can't be reached.
        """
        deadline = time.monotonic() + wait_s
        while request not in self._answers and not self.has_ended and await self._wait(deadline):
            self._require_processing()
        answer = self._answers.pop(request, None)
        finals = await views.read_list(self._core.server, self._keys)
        if answer is None:
            document = await self._read_document() if self.has_ended else None
            return SoFar(
                finals=document.utterances if document else finals, provisional=[], is_all=document is not None
            )
        while len(finals) < answer.utterances and time.monotonic() < deadline:
            await asyncio.sleep(LIST_LOOK_S)
            finals = await views.read_list(self._core.server, self._keys)
        # One that became final meanwhile isn't open any more.
        still_open = [one for one in answer.provisional if one.end > _end(finals, one.channel)]
        return SoFar(finals=finals, provisional=still_open, is_all=len(finals) >= answer.utterances)

    def on_event(self, position: Position, body: str, *, last: bool) -> None:  # noqa: ARG002 - for others
        """See `fanout.Sink`."""
        if last:
            self._last = body
        elif (standing := messages.quarantine_message(body)) is not None:
            self._aside = standing
        else:
            return
        self._news.set()

    def on_gone(self) -> None:
        """See `fanout.Sink`."""
        self._is_gone = True
        self._news.set()

    def on_answer(self, body: str) -> None:
        """See `fanout.Sink`."""
        answer = msgspec.json.decode(body, type=ProvisionalAnswer)
        self._answers[answer.request] = answer
        self._news.set()

    def on_document(self) -> None:
        """See `fanout.Sink`."""
        self._news.set()

    def _require_processing(self) -> None:
        if self._aside:
            raise ApiError(errors.QUARANTINED, f"{self._aside} (session {self._keys.session_id})")

    async def _read_document(self) -> Document | None:
        try:
            return await views.read_document(self._core.server, self._keys)
        except LogUnavailableError:
            return None  # the next look may succeed

    async def _wait(self, deadline: float) -> bool:
        """Wait for news, or for the time of the next look; False if there is no time left.

        Raises:
            ApiError: `unknown_session` if the session was erased meanwhile.
        """
        if self._is_gone:
            raise unknown_session()
        left_s = deadline - time.monotonic()
        if left_s <= 0 or self._core.is_draining:
            return False
        try:
            async with asyncio.timeout(min(left_s, LOOK_S)):
                await self._news.wait()
        except TimeoutError:
            self._core.fanout.look(self._listener)
        self._news.clear()
        return True


def _end(finals: list[ListedFinal], channel: int) -> float:
    return max((final.end for final in finals if final.channel == channel), default=-1.0)
