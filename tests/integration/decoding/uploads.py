"""Sessions whose clients send a container, as their edge writes it."""

import uuid
from collections.abc import Iterable

import msgspec

from eventlog.codec import decode_audio_event, decode_fact, encode
from eventlog.events import CONTAINER, AudioEvent, Fact, SessionSealed, SessionStarted
from eventlog.keys import RunKeys, SessionKeys
from eventlog.log import Append, Code
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.redis.redis_log import RedisLog
from tests.support.deployment import Deployment, Facts, timeless
from tests.support.pcm import SETTINGS
from tests.support.waiting import eventually_async

PIECE_BYTES = 4_000


class Upload:
    """One client's container on its way into the log."""

    def __init__(self, log: RedisLog, keys: SessionKeys) -> None:
        """Bind to an open session."""
        self.keys = keys
        self.upload = keys.upload
        self.run: RunKeys = keys.run()
        self._log = log
        self._head = OPENED

    async def send(self, data: bytes, piece_bytes: int = PIECE_BYTES) -> None:
        """Append bytes, in pieces."""
        for at in range(0, len(data), piece_bytes):
            piece = data[at : at + piece_bytes]
            await self._append(self._head.advanced(len(piece)), piece, is_audio=True)

    async def append_event(self, event: AudioEvent) -> None:
        """Append a control event."""
        await self._append(self._head.control(), encode(event), is_audio=False)

    async def seal(self, reason: str = "stop") -> None:
        """Append the end."""
        sealed = SessionSealed(reason=reason, offset_samples=self._head.offset)
        await self._append(SEALED, encode(sealed), is_audio=False)

    async def entries(self) -> list[tuple[Position, bytes, bytes]]:
        """The audio stream's entries: id, kind of payload, payload."""
        found = await self._log.server.execute("XRANGE", self.keys.audio, "-", "+")
        return [(Position.parse(entry_id), fields[0], fields[1]) for entry_id, fields in found]

    async def events(self) -> list[tuple[Position, AudioEvent]]:
        """The control events in the audio stream."""
        return [(at, decode_audio_event(data)) for at, kind, data in await self.entries() if kind == b"event"]

    async def pcm(self) -> bytes:
        """All the samples in the audio stream."""
        return b"".join(data for _, kind, data in await self.entries() if kind == b"pcm")

    async def facts(self) -> Facts:
        """Its facts so far, the wall clock left out of them."""
        return [(at, timeless(fact)) for at, fact in await self.decoded_facts()]

    async def decoded_facts(self) -> list[tuple[Position, Fact]]:
        """Its facts so far."""
        return [(at, decode_fact(fact)) for at, fact in await self._log.facts(self.run, START)]

    async def has_ended(self) -> bool:
        """Whether its last fact is its end."""
        last = await self._log.server.execute("XREVRANGE", self.run.transcript, "+", "-", "COUNT", 1)
        return bool(last) and Position.parse(last[0][0]) == SEALED

    async def is_freed(self) -> bool:
        """Whether no byte of the upload is left."""
        return not await self._log.server.execute("EXISTS", self.upload.audio)

    async def _append(self, position: Position, payload: bytes, *, is_audio: bool) -> None:
        [answer] = await self._log.append([Append(self.upload, 1, self._head, position, payload, is_audio)])
        assert answer.code == Code.OK
        self._head = position


async def opened(deployment: Deployment, **start: object) -> Upload:
    """A new session with an upload."""
    keys = deployment.server.keys.of(str(uuid.uuid4()))
    event = msgspec.convert(
        {
            "event": "session_started.v1", "session_id": keys.session_id, "sample_rate_hz": 16_000, "channels": 0,
            "encoding": CONTAINER, "segmenter": msgspec.to_builtins(SETTINGS), **start,
        },
        SessionStarted,
    )  # fmt: skip
    assert (await deployment.log.open(keys, event, "token")).code == Code.OK
    return Upload(deployment.log, keys)


async def sent(deployment: Deployment, data: bytes, **start: object) -> Upload:
    """A session whose whole container is in the log."""
    upload = await opened(deployment, **start)
    await upload.send(data)
    await upload.seal()
    return upload


async def ended(uploads: Iterable[Upload], timeout_s: float = 30.0) -> None:
    """Return when all have ended."""
    waited = list(uploads)

    async def look() -> bool:
        return all([await one.has_ended() for one in waited])

    await eventually_async(look, timeout_s, "the sessions' ends are among the facts")
