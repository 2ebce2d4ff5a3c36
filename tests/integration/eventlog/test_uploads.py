"""The right to decode an upload, its description, and the freeing of its bytes."""

import msgspec

from eventlog.codec import decode_audio_event
from eventlog.events import CONTAINER, SessionStarted, SourceDescribed
from eventlog.log import Append, Claim, Code
from eventlog.positions import OPENED, Position
from eventlog.work.uploads import Uploads
from tests.integration.eventlog.stage import TOKEN, Stage

SOURCE = SourceDescribed(sample_rate_hz=16_000, channels=2, container="webm", codec="opus")


async def claimed(stage: Stage, session_id: str = "u") -> Claim:
    """A claim on a new session with an upload."""
    keys = stage.server.keys.of(session_id)
    start = SessionStarted(session_id=session_id, sample_rate_hz=16_000, channels=0, encoding=CONTAINER)
    assert (await stage.log.open(keys, start, TOKEN)).code == Code.OK
    [claim] = await (await stage.worker("a")).take_new([keys.partition], 1)
    return claim


async def test_a_claim_holder_supersedes_earlier_decoders(stage: Stage) -> None:
    """Each start raises the epoch, so that an older decoder's samples are refused (SAFE-2)."""
    claim = await claimed(stage)
    uploads, keys = Uploads(stage.server), claim.keys.session
    first = await uploads.start_decoding(claim)
    second = await uploads.start_decoding(claim)
    assert (first.code, second.code, second.epoch) == (Code.OK, Code.OK, first.epoch + 1)
    late = Append(keys, first.epoch, OPENED, Position(5, 0), bytes(10), is_audio=True)
    [answer] = await stage.log.append([late])
    assert answer.code == Code.SUPERSEDED
    [answer] = await stage.log.append([late._replace(epoch=second.epoch)])
    assert answer.code == Code.OK


async def test_no_worker_decodes_without_the_claim(stage: Stage) -> None:
    """A claim that was taken over, a session that is gone and one that has its end can't be decoded (SAFE-2)."""
    claim = await claimed(stage)
    uploads = Uploads(stage.server)
    assert (await uploads.start_decoding(claim._replace(deliveries=2))).code == Code.LOST
    assert await stage.log.seal(claim.keys.session, "stop") == Code.OK
    assert (await uploads.start_decoding(claim)).code == Code.SEALED
    await stage.do("DEL", claim.keys.session.session)
    assert (await uploads.start_decoding(claim)).code == Code.GONE


async def test_a_source_is_described_once(stage: Stage) -> None:
    """The description is the audio's second entry and in every copy of the start; a retry changes nothing."""
    claim = await claimed(stage)
    uploads, keys = Uploads(stage.server), claim.keys.session
    started = await uploads.start_decoding(claim)
    assert started.start is not None
    start = msgspec.structs.replace(started.start, channels=2)
    stale = await uploads.describe(keys, started.epoch - 1, start, SOURCE)
    done = await uploads.describe(keys, started.epoch, start, SOURCE)
    again = await uploads.describe(keys, started.epoch, start, SOURCE)
    assert (stale.code, done.code, again.code) == (Code.SUPERSEDED, Code.OK, Code.MISPLACED)
    assert done.head == again.head == Position(0, 2)
    entries = await stage.do("XRANGE", keys.audio, "-", "+")
    assert [decode_audio_event(fields[1]) for _, fields in entries][1:] == [SOURCE]
    for one in (keys, keys.upload):
        about = await stage.log.read_position(one)
        assert about is not None
        assert about.start == start


async def test_a_freed_upload_takes_nothing_more(stage: Stage) -> None:
    """After an upload was freed appends to it answer SEALED, and none of its bytes is left."""
    claim = await claimed(stage)
    uploads, upload = Uploads(stage.server), claim.keys.session.upload
    one = Append(upload, 1, OPENED, Position(4, 0), b"data", is_audio=True)
    [answer] = await stage.log.append([one])
    assert answer.code == Code.OK
    for _ in range(2):
        await uploads.free(claim.keys.session)
    assert await stage.do("EXISTS", upload.audio) == 0
    [answer] = await stage.log.append([one._replace(after=one.position, position=Position(8, 0))])
    assert answer.code == Code.SEALED
