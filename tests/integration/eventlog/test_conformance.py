"""The log contract, on each backend.

The backends are one server and a cluster of three (fixture `server`); tests/unit/eventlog/test_fake_conformance.py runs
the same cases on fakeredis, with the first line of each script (``#!lua flags=…``) stripped.
"""

import asyncio

import pytest
from redis.exceptions import ResponseError

from eventlog.codec import UPCASTERS, decode_audio_event, decode_fact, encode
from eventlog.events import Finalized, HoleFound, SessionOpened, SessionSealed
from eventlog.log import Append, Appended, AudioEntry, Code, Opened
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.readmodel.feed import FeedKind, FeedMessage, decode_message
from eventlog.redis.redis_log import APPENDS_PER_CALL, KEYS_PER_READ
from eventlog.redis.wakeups import Wakeups
from tests.integration.eventlog.stage import TOKEN, TTL_S, Stage, chunk, control, pcm, started

OK = Appended(Code.OK)


async def subscribe(stage: Stage, channels: list[str], count: int) -> tuple[asyncio.Queue[tuple[str, bytes]], Wakeups]:
    """Subscribes to channels; returns the queue of their messages."""
    messages: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(count)
    wakeups = Wakeups(stage.server, channels, lambda *message: messages.put_nowait(message), lambda: None)
    await wakeups.start()
    await wakeups.listening()
    return messages, wakeups


async def test_opening_writes_all_beginnings(stage: Stage) -> None:
    """An opened session has its first audio event and its first fact, both as given, and stands right after them."""
    keys = await stage.opened()
    [entry] = await stage.entries(keys)
    [(position, fact)] = await stage.log.facts(keys.run(), START)
    assert entry.position == position == OPENED
    assert decode_audio_event(entry.event or b"") == started("s1")
    assert decode_fact(fact) == SessionOpened(
        session_id="s1", run="live", sample_rate_hz=16_000, channels=1, tenant_id="t1", opened_ms=1_700_000_000_000
    )


async def test_opening_sends_wakeups(stage: Stage) -> None:
    """An opened session wakes workers and projections, so that neither waits for its next poll."""
    partition = stage.keys().partition
    messages, wakeups = await subscribe(stage, [partition.sessions_wakeup, partition.changes_wakeup], 2)
    await stage.opened()
    async with asyncio.timeout(10):
        found = {await messages.get(), await messages.get()}
    await wakeups.stop()
    assert found == {(partition.sessions_wakeup, b"s1 live"), (partition.changes_wakeup, b"s1 live")}


async def test_opening_again_changes_nothing(stage: Stage) -> None:
    """A second opening of a session, with another token or after a lost answer, answers EXISTS and changes nothing."""
    keys, _ = await stage.spoken()
    before = await stage.snapshot(keys)
    for token in (TOKEN, "another"):
        assert (await stage.log.open(keys, started("s1"), token)).code == Code.EXISTS
    assert await stage.snapshot(keys) == before


async def test_opened_sessions_expire(stage: Stage) -> None:
    """Guard, audio and transcript of a session expire without activity for the TTL (STITCH-5, STITCH-7)."""
    keys = await stage.opened()
    for key in (keys.session, keys.audio, keys.run().transcript):
        assert TTL_S - 60 < await stage.do("TTL", key) <= TTL_S


async def test_resuming_continues_from_the_head(stage: Stage) -> None:
    """A resumed session has a higher epoch, returns the log's head, and takes audio from there (SESS-9)."""
    keys, head = await stage.spoken(chunks=3)
    answer = await stage.log.resume(keys, TOKEN)
    assert answer == Opened(Code.OK, 2, head, started("s1"))
    assert await stage.append(chunk(keys, head, epoch=2)) == OK


async def test_resuming_decodes_older_versions(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that an older version opened is resumed by this one (OPS-1)."""
    keys = await stage.opened()
    monkeypatch.setitem(UPCASTERS, "session_started.zeroth", lambda raw: raw | {"event": "session_started.v1"})
    old = encode(started("s1")).replace(b"started.v1", b"started.zeroth")
    await stage.do("HSET", keys.session, "start", old)
    assert (await stage.log.resume(keys, TOKEN)).start == started("s1")


async def test_resuming_supersedes_the_older_connection(stage: Stage) -> None:
    """After a resume the older connection's appends are refused with the new epoch, wherever they would go (SESS-9)."""
    keys, head = await stage.spoken()
    await stage.log.resume(keys, TOKEN)
    assert await stage.append(chunk(keys, head)) == Appended(Code.SUPERSEDED, 2, head)
    newer = chunk(keys, head, epoch=2, value=2)
    assert await stage.append(newer) == OK
    assert await stage.append(chunk(keys, newer.position)) == Appended(Code.SUPERSEDED, 2, newer.position)
    assert [entry.pcm for entry in (await stage.entries(keys))[1:]] == [pcm(1600), pcm(1600, 2)]


async def test_resuming_notifies_the_older_connection(stage: Stage) -> None:
    """A resume publishes "superseded" with the new epoch on the partition's feed channel."""
    keys = await stage.opened()
    messages, wakeups = await subscribe(stage, [keys.partition.feed_channel], 1)
    await stage.log.resume(keys, TOKEN)
    async with asyncio.timeout(10):
        _, message = await messages.get()
    await wakeups.stop()
    assert decode_message(message) == FeedMessage(FeedKind.SUPERSEDED, "s1 live", body="2")


async def test_a_wrong_token_changes_nothing(stage: Stage) -> None:
    """A resume with another token is FORBIDDEN, learns nothing and supersedes no connection (SAFE-4)."""
    keys, head = await stage.spoken()
    before = await stage.snapshot(keys)
    assert await stage.log.resume(keys, "another") == Opened(Code.FORBIDDEN)
    assert await stage.snapshot(keys) == before
    assert await stage.append(chunk(keys, head)) == OK


async def test_unknown_sessions_are_gone(stage: Stage) -> None:
    """Resume, append, seal and touch of a session that never was answer GONE or nothing, and create nothing."""
    keys = stage.keys()
    assert (await stage.log.resume(keys, TOKEN)).code == Code.GONE
    assert (await stage.append(chunk(keys, OPENED))).code == Code.GONE
    assert await stage.log.seal(keys, "idle") == Code.GONE
    await stage.log.touch([(keys, 1)])
    assert await stage.log.facts(keys.run(), START) == []
    assert await stage.entries(keys) == []
    assert set((await stage.snapshot(keys)).values()) == {None}


async def test_chunks_and_controls_stand_at_their_positions(stage: Stage) -> None:
    """A flush's entries are read in order, each at its position with its own bytes and Redis's clock (SAFE-1)."""
    keys = await stage.opened()
    now_ms = await stage.server.time_ms()
    first = chunk(keys, OPENED, value=7)
    finalize = control(keys, first.position, Finalized())
    second = chunk(keys, finalize.position, 10, value=8)
    assert await stage.log.append([first, finalize, second]) == [OK, OK, OK]
    entries = (await stage.entries(keys))[1:]
    assert [entry[:3] for entry in entries] == [
        (Position(1600, 0), pcm(1600, 7), None),
        (Position(1600, 1), None, encode(Finalized())),
        (Position(1610, 0), pcm(10, 8), None),
    ]
    assert all(0 <= entry.at_ms - now_ms < 10_000 for entry in entries)


async def test_a_failed_chunk_leaves_no_hole(stage: Stage) -> None:
    """After a chunk that never arrived later ones are refused, with the head, until it is sent (SAFE-1)."""
    keys, head = await stage.spoken()
    lost = chunk(keys, head, value=2)
    later = [chunk(keys, lost.position, value=3), chunk(keys, lost.position.advanced(1600), value=4)]
    assert await stage.log.append(later) == [Appended(Code.MISPLACED, 1, head)] * 2
    assert await stage.log.append([lost, *later]) == [OK] * 3
    assert [entry.pcm for entry in (await stage.entries(keys))[1:]] == [pcm(1600, value) for value in (1, 2, 3, 4)]


async def test_a_repeated_append_is_found_in_the_log(stage: Stage) -> None:
    """After a lost answer the same flush answers MISPLACED with a head at or past each position, and is stored once."""
    keys = await stage.opened()
    first = chunk(keys, OPENED)
    flush = [first, control(keys, first.position, Finalized())]
    assert await stage.log.append(flush) == [OK, OK]
    before = await stage.snapshot(keys)
    for answer, append in zip(await stage.log.append(flush), flush, strict=True):
        assert answer.code == Code.MISPLACED
        assert answer.head >= append.position
    assert await stage.snapshot(keys) == before


async def test_an_end_that_went_back_is_filled_again(stage: Stage) -> None:
    """When a failover lost acked audio, the guard returns the log's true head and takes audio again from there."""
    keys, head = await stage.spoken(chunks=2)
    state = await stage.snapshot(keys)
    lost = [chunk(keys, head, value=2), chunk(keys, head.advanced(1600), value=3)]
    assert await stage.log.append(lost) == [OK, OK]
    await stage.restore(state, [keys.session, keys.audio])
    later = chunk(keys, lost[-1].position, value=4)
    assert await stage.append(later) == Appended(Code.MISPLACED, 1, head)
    assert await stage.log.append([*lost, later]) == [OK] * 3
    offsets = [entry.position.offset for entry in await stage.entries(keys)]
    assert offsets == [0, 1600, 3200, 4800, 6400, 8000]


async def test_lost_audio_is_a_hole_event(stage: Stage) -> None:
    """Audio that is lost permanently leaves an event that takes up its samples, so later offsets stay true."""
    keys, head = await stage.spoken()
    hole = control(keys, head, HoleFound(samples=3200), at=head.advanced(3200))
    after = chunk(keys, hole.position)
    assert await stage.log.append([hole, after]) == [OK, OK]
    entries = await stage.entries(keys, head)
    assert [entry.position for entry in entries] == [Position(4800, 0), Position(6400, 0)]
    assert decode_audio_event(entries[0].event or b"") == HoleFound(samples=3200)


async def test_nothing_comes_after_the_seal(stage: Stage) -> None:
    """After the end every append is SEALED, a resume too, and Redis itself refuses any id that it is given."""
    keys, head = await stage.spoken()
    end = control(keys, head, SessionSealed(reason="stop", offset_samples=head.offset), at=SEALED)
    assert await stage.append(end) == OK
    assert await stage.append(chunk(keys, head)) == Appended(Code.SEALED, 1, SEALED)
    assert await stage.append(end) == Appended(Code.MISPLACED, 1, SEALED)
    assert (await stage.log.resume(keys, TOKEN)).code == Code.SEALED
    assert await stage.log.seal(keys, "idle") == Code.SEALED
    for entry_id in ("*", f"{head.offset + 1600}-0", str(SEALED)):
        with pytest.raises(ResponseError):
            await stage.do("XADD", keys.audio, entry_id, "pcm", "late")
    assert (await stage.entries(keys))[-1].event == end.payload


async def test_a_deleted_session_is_not_created_again(stage: Stage) -> None:
    """A late append, seal or touch of a deleted or expired session answers GONE and brings no key back."""
    keys, head = await stage.spoken()
    await stage.do("DEL", keys.audio)
    for late in (chunk(keys, head), control(keys, head, Finalized())):
        assert (await stage.append(late)).code == Code.GONE
    assert await stage.log.seal(keys, "deleted") == Code.GONE
    await stage.do("DEL", keys.session)
    assert (await stage.append(chunk(keys, head))).code == Code.GONE
    assert await stage.log.seal(keys, "deleted") == Code.GONE
    await stage.log.touch([(keys, 1)])
    assert await stage.do("EXISTS", keys.audio, keys.session) == 0


async def test_a_stream_ahead_of_its_guard_is_never_stitched_over(stage: Stage) -> None:
    """An entry that came into the stream past the guard stops the session, instead of being written around."""
    keys, head = await stage.spoken()
    await stage.do("XADD", keys.audio, f"{head.offset + 9999}-0", "pcm", "x", "at_ms", 1)
    assert (await stage.append(chunk(keys, head))).code == Code.GONE


async def test_one_bad_session_leaves_the_others_alone(stage: Stage) -> None:
    """In a flush of many sessions each is judged alone, and the answers come in the order given."""
    opened = [await stage.spoken(f"s{number}") for number in range(12)]
    unknown, ended, resumed, behind = (opened[number][0] for number in (2, 3, 5, 7))
    await stage.do("DEL", unknown.session)
    await stage.log.seal(ended, "idle")
    await stage.log.resume(resumed, TOKEN)
    flush = [chunk(keys, Position(0, 9) if keys is behind else head) for keys, head in opened]
    answers = await stage.log.append(flush)
    wrong = {2: Code.GONE, 3: Code.SEALED, 5: Code.SUPERSEDED, 7: Code.MISPLACED}
    assert [answer.code for answer in answers] == [wrong.get(number, Code.OK) for number in range(12)]


async def test_a_flush_of_any_size_is_answered_in_order(stage: Stage) -> None:
    """A flush of several script calls' length is written whole, in order; one of nothing is answered with nothing."""
    keys = await stage.opened()
    flush: list[Append] = []
    for _ in range(2 * APPENDS_PER_CALL + 7):
        flush.append(chunk(keys, flush[-1].position if flush else OPENED, 1))
    assert await stage.log.append(flush) == [OK] * len(flush)
    assert await stage.do("XLEN", keys.audio) == len(flush) + 1
    assert await stage.log.append([]) == []


async def test_reading_returns_new_entries_only(stage: Stage) -> None:
    """A read returns the entries after each cursor, on each repetition, and omits sessions without any."""
    (one, head), (other, other_head) = await stage.spoken("s1", 3), await stage.spoken("s2", 2)
    cursors = {one: Position(1600, 0), other: other_head, stage.keys("unknown"): START}
    for _ in range(2):
        found = await stage.log.read(cursors, max_bytes_each=1 << 20)
        assert {keys.session_id: [entry.position for entry in entries] for keys, entries in found.items()} == {
            "s1": [Position(3200, 0), head]
        }


async def test_many_sessions_are_read_together(stage: Stage) -> None:
    """More sessions than one command may name are read in one call, each with its own entries."""
    ids = [f"s{number}" for number in range(KEYS_PER_READ + 10)]
    opened = await asyncio.gather(*(stage.spoken(session_id) for session_id in ids))
    found = await stage.log.read({keys: OPENED for keys, _ in opened}, max_bytes_each=1 << 20)
    assert sorted(keys.session_id for keys in found) == sorted(ids)
    assert all(len(entries) == 1 for entries in found.values())


async def test_reading_is_bounded_by_bytes(stage: Stage) -> None:
    """A reader that is far behind gets about the bytes that it asked for, and the rest from later reads (SESS-10)."""
    keys, head = await stage.spoken(chunks=60)
    got: list[AudioEntry] = []
    while not got or got[-1].position < head:
        cursor = got[-1].position if got else OPENED
        found = await stage.log.read({keys: cursor}, max_bytes_each=32_000)
        assert 0 < sum(len(entry.pcm or b"") for entry in found[keys]) <= 64_000
        got += found[keys]
    assert [entry.position.offset for entry in got] == list(range(1600, 60 * 1600 + 1, 1600))


async def test_sealing_goes_by_the_clock_of_redis(stage: Stage) -> None:
    """A session with life within the bound by Redis's clock isn't sealed, and a keepalive counts as life (SESS-7)."""
    keys, head = await stage.spoken()
    await stage.do("HSET", keys.session, "seen_ms", await stage.server.time_ms() - 400_000)
    await stage.log.touch([(keys, 1)])
    before = await stage.snapshot(keys)
    assert await stage.log.seal(keys, "idle", idle_ms=300_000) == Code.NOT_IDLE
    assert await stage.snapshot(keys) == before
    assert await stage.append(chunk(keys, head)) == OK


@pytest.mark.parametrize("life", ["append", "resume"])
async def test_appends_and_resumes_are_life(stage: Stage, life: str) -> None:
    """A session that was silent for long isn't idle any more after an append or a resume (SESS-7)."""
    keys, head = await stage.spoken()
    await stage.do("HSET", keys.session, "seen_ms", await stage.server.time_ms() - 400_000)
    await (stage.append(chunk(keys, head)) if life == "append" else stage.log.resume(keys, TOKEN))
    assert await stage.log.seal(keys, "idle", idle_ms=300_000) == Code.NOT_IDLE


async def test_idle_sessions_are_sealed_at_their_true_end(stage: Stage) -> None:
    """An idle session is sealed once, with its true offset, despite a superseded keepalive (SESS-7)."""
    keys, head = await stage.spoken(chunks=2)
    await stage.log.resume(keys, TOKEN)
    await stage.do("HSET", keys.session, "seen_ms", await stage.server.time_ms() - 300_001)
    await stage.log.touch([(keys, 1)])
    assert await stage.log.seal(keys, "idle", idle_ms=300_000) == Code.OK
    [entry] = await stage.entries(keys, head)
    assert entry.position == SEALED
    assert decode_audio_event(entry.event or b"") == SessionSealed(reason="idle", offset_samples=head.offset)
    assert await stage.log.seal(keys, "idle", idle_ms=300_000) == Code.SEALED


async def test_a_closed_session_ends_after_its_grace_and_not_before(stage: Stage) -> None:
    """A session whose client closed is sealed as closed by any sweep once its grace is over (WORD-5)."""
    keys, head = await stage.spoken()
    assert await stage.log.begin_close([(keys, 1)], grace_ms=60_000) == [Code.OK]
    assert await stage.log.seal(keys, "idle", idle_ms=300_000) == Code.NOT_IDLE
    assert await stage.log.seal_closed([keys]) == [Code.NOT_IDLE]
    assert await stage.log.begin_close([(keys, 1)], grace_ms=0) == [Code.OK]
    assert await stage.log.seal(keys, "idle", idle_ms=300_000) == Code.OK
    [entry] = await stage.entries(keys, head)
    assert decode_audio_event(entry.event or b"") == SessionSealed(reason="closed", offset_samples=head.offset)
    assert await stage.log.begin_close([(keys, 1)], grace_ms=0) == [Code.SEALED]


async def test_a_resume_makes_the_end_of_a_closed_session_void(stage: Stage) -> None:
    """A resume cancels the deadline of the connection before it, which can't set another; any other end stays so."""
    keys, head = await stage.spoken()
    assert await stage.log.begin_close([(keys, 1)], grace_ms=0) == [Code.OK]
    assert (await stage.log.resume(keys, TOKEN)).epoch == 2
    assert await stage.log.begin_close([(keys, 1)], grace_ms=0) == [Code.SUPERSEDED]
    assert await stage.log.seal_closed([keys]) == [Code.NOT_IDLE]
    assert await stage.log.begin_close([(keys, 2)], grace_ms=0) == [Code.OK]
    assert await stage.log.seal(keys, "stop") == Code.OK
    [entry] = await stage.entries(keys, head)
    assert decode_audio_event(entry.event or b"") == SessionSealed(reason="stop", offset_samples=head.offset)
    assert await stage.log.begin_close([(stage.keys("never opened"), 1)], grace_ms=0) == [Code.GONE]


async def test_facts_are_read_from_a_position_on(stage: Stage) -> None:
    """Facts after a position come in order, no more than asked for, and none after the last."""
    keys = await stage.opened()
    for number in range(1, 5):
        await stage.do("XADD", keys.run().transcript, f"{number}-0", "fact", f"{number}")
    found = await stage.log.facts(keys.run(), Position(1, 0), limit=2)
    assert found == [(Position(2, 0), b"2"), (Position(3, 0), b"3")]
    assert await stage.log.facts(keys.run(), Position(4, 0)) == []
