"""Recordings to be shared, and their expected finals."""

from dataclasses import dataclass

import msgspec
import numpy as np

from eventlog.events import Batch, SessionStarted
from eventlog.log import LogUnavailableError
from processor.sharing.sharer import Sharer
from processor.worker import Worker
from tests.support.deployment import Session, finals_in
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

# Many, so that several workers have work; short cuts make eight of nine seconds.
REPEATS = 6


@dataclass
class Recording(Story):
    """A recorded file."""

    @property
    def start(self) -> SessionStarted:
        """The session's first event."""
        return msgspec.structs.replace(super().start, batch=Batch(user_id="somebody"))


def recording(repeats: int = REPEATS, channels: int = 1) -> Recording:
    """Nine seconds of speech, and again a little lower, so that no two utterances are the same."""
    said = [(talk(16_000, channels) * (1 - number / 100)).astype(np.int16) for number in range(repeats)]
    return Recording(np.concatenate(said))


def live(repeats: int = 1) -> Story:
    """The same as a live session."""
    return Story(np.tile(talk(), (repeats, 1)))


def sharing(worker: Worker) -> Sharer:
    """A worker's sharing role."""
    assert worker._sharer is not None
    return worker._sharer


def offered(worker: Worker) -> int:
    """How many utterances a worker has offered and has no results of."""
    return sharing(worker).offered_utterances


async def looking(worker: Worker) -> None:
    """Return when a worker has said to the others that it looks for work."""

    async def look() -> bool:
        recognising = sharing(worker)._taker._shared
        return await worker._server.execute("ZSCORE", recognising._recognisers, worker.consumer) is not None

    await eventually_async(look, message=f"{worker.consumer} looks for work")


async def left(worker: Worker) -> int:
    """How many entries are on the stream of utterances."""
    recognising = sharing(worker)._offerer._shared
    try:
        return int(await worker._server.execute("XLEN", recognising._stream))
    except LogUnavailableError:
        return -1


async def is_as_undisturbed(session: Session) -> None:
    """A recording's finals, in order and once each, are those of a undisturbed run."""
    assert finals_in(await session.facts()) == finals_in(session.expected())
