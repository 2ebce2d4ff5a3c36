"""Commits, the only writers of facts, on one server and on a cluster."""

import asyncio

import pytest

from eventlog.codec import decode_fact
from eventlog.events import OptionsChanged
from eventlog.keys import RunKeys
from eventlog.log import Checkpoint, Code, Commit, Committed
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.redis.wakeups import Wakeups
from eventlog.work.claims import LoadedRun
from tests.integration.eventlog.stage import TTL_S, Stage, commit, ended, final


async def test_a_commit_moves_facts_and_checkpoint_together(stage: Stage) -> None:
    """After a commit its facts are in the transcript, in order, and the run is loaded from its checkpoint."""
    keys, head = await stage.spoken()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    checkpoint = Checkpoint(cursor=head, boundaries=(1440, 800), utterance=2, serial=1)
    facts = [final(0, "one"), final(1, "two")]
    assert await stage.commit(Commit(claim, checkpoint, facts)) == Committed(Code.OK, "a", 1)
    stored = await stage.log.facts(keys.run(), Position(0, 1))
    assert [(position, decode_fact(fact)) for position, fact in stored] == facts
    [started] = await a.load([claim])
    assert (started.checkpoint, started.last_fact) == (checkpoint, Position(2, 0))


async def test_a_checkpoint_keeps_the_changed_options(stage: Stage) -> None:
    """What a client changed is loaded with the checkpoint, for the entries that say it may be trimmed (WORD-6)."""
    await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    changed = OptionsChanged(language="pt-BR", terms=("Dashwood", "…"), prompt="", hangover_ms=300)
    for serial, options in enumerate((None, changed), 1):
        checkpoint = Checkpoint(cursor=OPENED, boundaries=(0,), serial=serial, options=options)
        assert (await stage.commit(Commit(claim, checkpoint, []))).code == Code.OK
        [loaded] = await a.load([claim])
        assert loaded.checkpoint == checkpoint


async def test_a_commit_notifies_the_projections(stage: Stage) -> None:
    """A commit with facts adds one notice and sends a wake-up; one that only moves the checkpoint does neither."""
    keys = await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    received: asyncio.Queue[bytes] = asyncio.Queue()
    channels = [keys.partition.changes_wakeup]
    wakeups = Wakeups(stage.server, channels, lambda _, run: received.put_nowait(run), lambda: None)
    await wakeups.start()
    await wakeups.listening()
    for one in (commit(claim, 1), commit(claim, 2, final(0), final(1))):
        assert (await stage.commit(one)).code == Code.OK
    async with asyncio.timeout(10):
        assert await received.get() == b"s1 live"
    await wakeups.stop()
    assert received.empty()
    notices = await stage.do("XRANGE", keys.partition.changes, "-", "+")
    # One of the opening, one of the commit with facts.
    assert [fields for _, fields in notices] == [[b"run", b"s1 live"]] * 2


async def test_a_lost_claim_commits_nothing(stage: Stage) -> None:
    """The commit of a superseded worker writes nothing, and returns the holder of the run (SAFE-2)."""
    keys = await stage.opened()
    a, b = await stage.worker("a"), await stage.worker("b")
    claim = await stage.claimed(a)
    await stage.age(claim)
    [newer] = await b.take_over(100)
    before = await stage.snapshot(keys)
    assert await stage.commit(commit(claim, 1, final(0))) == Committed(Code.LOST, "b", 0)
    assert await stage.commit(commit(claim, 1, ended(0), ends=True)) == Committed(Code.LOST, "b", 0)
    assert await stage.snapshot(keys) == before
    assert (await stage.commit(commit(newer, 1, final(0)))).code == Code.OK


async def test_a_handed_over_claim_commits_nothing(stage: Stage) -> None:
    """After a hand-over, before a worker took the run, the older holder's commit is LOST without a holder (SAFE-2)."""
    await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    await a.hand_over([claim])
    assert await stage.commit(commit(claim, 1, final(0))) == Committed(Code.LOST, "", 0)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_repeated_commit_is_done_once(stage: Stage, ends: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A commit whose answer was lost answers OK when repeated, and its facts are stored once (SAFE-1)."""
    keys = await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    one = commit(claim, 1, final(0), ended(1), ends=True) if ends else commit(claim, 1, final(0))
    assert await stage.commit(one) == Committed(Code.OK, "a", 1)
    before = await stage.snapshot(keys)
    for _ in range(2):
        assert await stage.commit(one) == Committed(Code.OK, "a", 1)
    assert await stage.snapshot(keys) == before
    assert await stage.texts(keys) == ["yes"]


async def test_a_commit_out_of_turn_is_stale(stage: Stage) -> None:
    """A commit that expects another number than the stored one writes nothing and returns that number."""
    keys = await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    for serial in (1, 2, 3):
        assert (await stage.commit(commit(claim, serial, final(serial - 1)))).code == Code.OK
    before = await stage.snapshot(keys)
    for serial in (1, 2, 5):
        assert await stage.commit(commit(claim, serial, final(9))) == Committed(Code.STALE, "a", 3)
    assert await stage.snapshot(keys) == before


@pytest.mark.parametrize("places", [[(1, 0), (0, 9)], [(2, 0), (2, 0)], [(0, 1)], [(0, 0)]], ids=str)
async def test_facts_out_of_order_write_nothing(stage: Stage, places: list[tuple[int, int]]) -> None:
    """A commit whose facts don't rise from the last stored one is refused before its first write."""
    keys = await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    before = await stage.snapshot(keys)
    facts = [(Position(*place), final(0)[1]) for place in places]
    assert await stage.commit(commit(claim, 1, *facts)) == Committed(Code.MISPLACED, "a", 0)
    assert await stage.snapshot(keys) == before


async def test_a_deleted_transcript_stays_deleted(stage: Stage) -> None:
    """A late commit to a deleted session answers GONE and brings neither transcript nor checkpoint back."""
    keys = await stage.opened()
    claim = await stage.claimed(await stage.worker("a"))
    await stage.do("DEL", keys.session, keys.audio, keys.run().transcript)
    assert await stage.commit(commit(claim, 1, final(0))) == Committed(Code.GONE, "a", 0)
    assert await stage.do("EXISTS", keys.session, keys.audio, keys.run().transcript, keys.run().checkpoint) == 0


async def test_nothing_follows_the_last_fact(stage: Stage) -> None:
    """The end is the transcript's last possible entry, and the run isn't offered or committed to again."""
    keys = await stage.opened()
    a = await stage.worker("a")
    claim = await stage.claimed(a)
    assert (await stage.commit(commit(claim, 1, final(0), ended(1), ends=True))).code == Code.OK
    assert [position for position, _ in await stage.log.facts(keys.run(), START)][-1] == SEALED
    assert (await stage.commit(commit(claim, 2, final(1)))).code == Code.LOST
    assert await a.load([claim]) == [LoadedRun(Code.LOST)]
    assert (await a.reoffer_missing(keys.partition)).members == []


async def test_commits_of_a_round_are_judged_alone(stage: Stage) -> None:
    """Of many runs' commits in one round each is whole or absent by itself, answered in the order given."""
    for number in range(6):
        await stage.opened(f"s{number}")
    a, b = await stage.worker("a"), await stage.worker("b")
    claims = await a.take_new(stage.server.keys.partitions, 100)
    await stage.age(claims[1])
    assert len(await b.take_over(100)) == 1
    await stage.do("DEL", claims[3].keys.transcript)
    serials = [1, 1, 7, 1, 1, 1]
    answers = await stage.log.commit([commit(claim, n, final(0)) for claim, n in zip(claims, serials, strict=True)])
    assert [answer.code for answer in answers] == [Code.OK, Code.LOST, Code.STALE, Code.GONE, Code.OK, Code.OK]
    texts = [await stage.texts(claim.keys.session) for claim in claims]
    assert texts == [["yes"], [], [], [], ["yes"], ["yes"]]
    assert await stage.log.commit([]) == []


async def test_runs_of_a_session_do_not_touch_each_other(stage: Stage) -> None:
    """A replay has a claim, a transcript and a checkpoint of its own beside the live run's (REPLAY-1)."""
    keys = await stage.opened()
    replay: RunKeys = keys.run("again")
    await stage.do("XADD", replay.transcript, "0-1", "fact", "{}")
    await stage.do("HSET", keys.partition.entries, replay.member, "1-1")
    a = await stage.worker("a")
    assert (await a.reoffer_missing(keys.partition)).offered == 1
    live, other = sorted(
        await a.take_new(stage.server.keys.partitions, 100) + await a.take_new(stage.server.keys.partitions, 100),
        key=lambda claim: claim.keys.run, reverse=True,
    )  # fmt: skip
    assert (await stage.commit(commit(other, 1, final(0, "replayed")))).code == Code.OK
    assert (await stage.commit(commit(live, 1, final(0, "live")))).code == Code.OK
    assert await stage.texts(keys) == ["live"]
    assert [decode_fact(fact) for _, fact in await stage.log.facts(replay, Position(0, 1))] == [final(0, "replayed")[1]]


async def test_everything_of_a_session_expires(stage: Stage) -> None:
    """After open, commit and end each key of the session has a TTL, refreshed by the end (STITCH-5, STITCH-7)."""
    keys, head = await stage.spoken()
    claim = await stage.claimed(await stage.worker("a"))
    assert (await stage.commit(commit(claim, 1, final(0)))).code == Code.OK
    await stage.log.seal(keys, "idle")
    run = keys.run()
    written = [keys.session, keys.audio, run.transcript, run.checkpoint]
    for key in written:
        assert await stage.do("TTL", key) > 0
        await stage.do("EXPIRE", key, 60)
    assert (await stage.commit(commit(claim, 2, ended(1), ends=True, trim_before=head))).code == Code.OK
    for key in written:
        assert TTL_S - 60 < await stage.do("TTL", key) <= TTL_S
    left = await stage.server.execute_many([("EXISTS", key) for key in run.expiring() if key not in written])
    assert set(left) == {0}


async def test_trimmed_audio_is_freed_and_skipped(stage: Stage) -> None:
    """Audio that a commit trims is freed, a read from before it begins where it is retained, and the rest is whole."""
    keys, _ = await stage.spoken(chunks=200)
    claim = await stage.claimed(await stage.worker("a"))
    before = Position(150 * 1600, 0)
    assert (await stage.commit(commit(claim, 1, trim_before=before))).code == Code.OK
    entries = await stage.entries(keys)
    # Redis frees whole nodes of a few entries, never one too many.
    assert 51 <= len(entries) <= 60
    assert [entry.position.offset for entry in entries] == list(range(entries[0].position.offset, 320_001, 1600))
    assert entries[0].position <= before
