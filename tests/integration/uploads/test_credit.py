"""How far an upload may come, and what of it is freed: what the scripts let happen."""

import sys
from itertools import pairwise

from eventlog.events import CONTAINER, SessionStarted
from eventlog.log import Append, Claim, Code
from eventlog.positions import OPENED, Position
from eventlog.work import heartbeats
from eventlog.work.uploads import RESTARTS, WORKER, TrimPoint, Uploads, read_credits
from tests.integration.eventlog.stage import TOKEN, Stage

AHEAD_BYTES = 1_000
RECORD = b'{"a":1}'


async def claimed(stage: Stage) -> Claim:
    """A claim on a session with an upload of three entries of 100 bytes."""
    keys = stage.server.keys.of("u")
    start = SessionStarted(session_id="u", sample_rate_hz=16_000, channels=0, encoding=CONTAINER)
    assert (await stage.log.open(keys, start, TOKEN)).code == Code.OK
    places = [OPENED, *(Position(at, 0) for at in (100, 200, 300))]
    appends = [
        Append(keys.upload, 1, after, at, bytes([number]) * 100, is_audio=True)
        for number, (after, at) in enumerate(pairwise(places))
    ]
    assert {one.code for one in await stage.log.append(appends)} == {Code.OK}
    [claim] = await (await stage.worker("a")).take_new([keys.partition], 1)
    return claim


def uploads(stage: Stage) -> Uploads:
    """What a worker does."""
    return Uploads(stage.server, ahead_bytes=AHEAD_BYTES)


async def ids(stage: Stage, claim: Claim) -> list[bytes]:
    """The upload's entries."""
    return [entry_id for entry_id, _ in await stage.do("XRANGE", claim.keys.session.upload.audio, "-", "+")]


async def credit(stage: Stage) -> int:
    """What an edge would learn."""
    [found] = await read_credits(stage.server, ["u"], 77)
    return found


async def test_credit_is_the_claim_holder_s(stage: Stage) -> None:
    """SESS-10: before decoding begins, the edge's own bound holds; then the claim holder's, which never falls."""
    claim = await claimed(stage)
    assert await credit(stage) == 77
    assert (await uploads(stage).start_decoding(claim)).code == Code.OK
    assert await credit(stage) == AHEAD_BYTES
    assert await uploads(stage).grant_credit(claim, 5_000) == Code.OK
    assert await uploads(stage).grant_credit(claim, 4_000) == Code.OK
    assert (await uploads(stage).start_decoding(claim)).code == Code.OK
    assert await credit(stage) == 5_000


async def test_an_older_worker_bounds_nothing(stage: Stage) -> None:
    """OPS-1: an upload whose worker knows no credit, or that is sealed, does not wait."""
    claim = await claimed(stage)
    keys = claim.keys.session
    await stage.do("HSET", keys.session, "guard", "2 0-2")  # what such a worker's beginning leaves
    assert await credit(stage) == sys.maxsize
    assert (await uploads(stage).start_decoding(claim)).code == Code.OK
    assert await credit(stage) == AHEAD_BYTES
    await uploads(stage).free(keys)
    assert await credit(stage) == sys.maxsize


async def test_what_is_freed_is_made_up_for(stage: Stage) -> None:
    """SAFE-1: entries before the first byte wanted go, and the next holder gets the record and the beginning."""
    claim = await claimed(stage)
    assert await uploads(stage).grant_credit(claim, 9_000, TrimPoint(RECORD, 150, b"head")) == Code.OK
    assert await ids(stage, claim) == [b"200-0", b"300-0"]
    started = await uploads(stage).start_decoding(claim)
    assert (started.restart, started.first_bytes) == (RECORD, b"head")
    assert await uploads(stage).grant_credit(claim, 9_000, TrimPoint(b"{}", 200)) == Code.OK
    assert await ids(stage, claim) == [b"300-0"]
    started = await uploads(stage).start_decoding(claim)
    assert (started.restart, started.first_bytes) == (b"{}", b"head")
    await uploads(stage).free(claim.keys.session)
    assert await stage.do("EXISTS", claim.keys.session.upload.head, claim.keys.session.upload.audio) == 0


async def test_only_the_claim_holder_frees(stage: Stage) -> None:
    """SAFE-2: without the claim, or once it is freed, an upload's bytes, record and credit stay as they are."""
    claim = await claimed(stage)
    older = claim._replace(deliveries=2)
    assert await uploads(stage).grant_credit(older, 9_000, TrimPoint(RECORD, 150, b"head")) == Code.LOST
    assert (len(await ids(stage, claim)), await credit(stage)) == (4, 77)
    await uploads(stage).free(claim.keys.session)
    assert await uploads(stage).grant_credit(claim, 9_000, TrimPoint(RECORD, 150, b"head")) == Code.GONE
    assert await stage.do("EXISTS", claim.keys.session.upload.head) == 0


async def test_nothing_is_freed_beside_older_workers(stage: Stage) -> None:
    """OPS-1: while a worker lives that couldn't continue with the rest of an upload, all of it is kept."""
    assert await uploads(stage).may_be_trimmed()
    await heartbeats.write(stage.server, WORKER, "new", {RESTARTS: 1})
    await heartbeats.write(stage.server, "edge", "an edge", {})
    assert await uploads(stage).may_be_trimmed()
    await heartbeats.write(stage.server, WORKER, "old", {})
    assert not await uploads(stage).may_be_trimmed()
