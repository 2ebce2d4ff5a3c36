"""Rebuilt read models equal the original ones, whatever had happened to them."""

import asyncio
import time

import pytest

from eventlog.keys import READ_MODELS, RunKeys
from eventlog.log import Code
from eventlog.positions import SEALED, Position
from eventlog.projection.dead_letters import read_dead_letters
from eventlog.projection.rebuild import drop_orphans
from eventlog.readmodel.feed import FeedMessage, decode_message
from eventlog.redis.server import Server, connect
from eventlog.redis.wakeups import Wakeups
from eventlog.work.promotion import promote
from projections import rebuilder as module
from projections.rebuilder import Rebuilder, Report
from tests.integration.projections.facts import a_run, conversation, ended, final, opened, write
from tests.integration.rebuild.read_models import (
    TTL_S,
    each,
    no_leftovers,
    nothing,
    parts_of,
    project,
    projection,
    rebuild,
    remembered,
)
from tests.support.waiting import eventually_async

ABSENT = -2
"""The TTL of no key."""


async def some_runs(server: Server) -> list[RunKeys]:
    """Ended, open, empty, long and replayed ones, all projected."""
    now_ms = int(time.time() * 1000)
    runs = [a_run(server) for _ in range(5)]
    for number, run in enumerate(runs[:3]):
        facts = conversation(run, number * 4)
        await write(server, run, [*facts[:-1], ended(number * 4, ended_ms=now_ms)])
    await write(server, runs[3], [opened(runs[3]), final(0)])
    await write(server, runs[4], conversation(runs[4], 450))
    replay = runs[2].session.run("again")
    await write(server, replay, conversation(replay, 3))
    await project(server, [*runs, replay])
    return [*runs, replay]


@pytest.mark.parametrize("name", READ_MODELS)
async def test_a_rebuilt_read_model_equals_the_old_one(log: Server, name: str) -> None:
    """REPLAY-2: rebuilt from the first fact on, each read model equals the old one, by checksum and byte by byte."""
    runs = await some_runs(log)
    before = await remembered(log)
    report = await rebuild(log, name)
    assert (report.runs, report.failed, report.differing) == (len(runs), [], [])
    assert report.events == sum([await log.execute("XLEN", run.transcript) for run in runs])
    assert report.checksum_before == report.checksum_after > 0
    assert await remembered(log) == before
    assert await no_leftovers(log, *runs)


@pytest.mark.parametrize("name", READ_MODELS)
async def test_a_dropped_read_model_comes_back(log: Server, name: str) -> None:
    """REPLAY-2: a read model whose keys were deleted, with or without its position, is rebuilt as it was."""
    runs = await some_runs(log)
    before = await remembered(log)
    for run in runs:
        keys = parts_of(run, name)
        await log.execute("DEL", *(keys[:-1] if run is runs[0] else keys))
    if name == "sessions":
        for partition in log.keys.partitions:
            await log.execute("DEL", partition.open_runs, partition.ended_runs)
    report = await rebuild(log, name)
    assert (report.runs, report.behind, report.failed) == (len(runs), len(runs) - 1, [])
    status_of_long_ago = {runs[4].status, runs[5].status} if name == "status" else set()
    after = await remembered(log)
    assert after == {key: value for key, value in before.items() if key not in status_of_long_ago}


@pytest.mark.parametrize("name", READ_MODELS)
async def test_keys_of_a_foreign_type_are_replaced(log: Server, name: str) -> None:
    """REPLAY-2: keys of a foreign type are replaced by those that the facts give, and expire."""
    runs = await some_runs(log)
    before = await remembered(log)
    for key in parts_of(runs[0], name):
        await log.execute("DEL", key)
        await log.execute("SADD", key, "rubbish")
    report = await rebuild(log, name)
    assert report.failed == []
    assert await remembered(log) == before
    assert all(0 < life_s <= 86_400 for life_s in await lives(log, parts_of(runs[0], name)) if life_s != ABSENT)


async def test_differences_are_reported(single: Server) -> None:
    """REPLAY-2: --verify names the run and the part that differed from the facts, and no other."""
    runs = await some_runs(single)
    await single.execute("LSET", runs[1].list, 1, "something else")
    report = await rebuild(single, "lists")
    assert report.differing == [(runs[1].member, "list")]
    assert report.checksum_before != report.checksum_after
    await single.execute("ZREM", runs[3].partition.open_runs, runs[3].member)
    assert (await rebuild(single, "sessions")).differing == [(runs[3].member, "listing")]
    assert (await rebuild(single, "sessions")).differing == []


async def test_a_trimmed_feed_equals_what_both_keep(single: Server) -> None:
    """REPLAY-2: feeds are compared from where both begin, since each is trimmed at will."""
    run = a_run(single)
    await write(single, run, conversation(run, 300))
    await project(single, [run])
    await single.execute("XTRIM", run.feed, "MINID", "250-0")
    report = await rebuild(single, "feeds")
    assert (report.differing, report.checksum_before) == ([], report.checksum_after)
    assert await single.execute("XLEN", run.feed) == 301


@pytest.mark.parametrize("name", READ_MODELS)
async def test_a_rebuild_prolongs_no_key(log: Server, name: str) -> None:
    """STITCH-7: a rebuilt key expires when the old one did, and one that was dropped when the facts do."""
    kept, dropped = a_run(log), a_run(log)
    now_ms = int(time.time() * 1000)
    for run in (kept, dropped):
        await write(log, run, [opened(run), final(0), ended(1, ended_ms=now_ms)])
        await project(log, [run], [name])
        await log.execute("EXPIRE", run.transcript, 200)
    for key in parts_of(kept, name):
        assert await log.execute("EXPIRE", key, 100)
    await log.execute("DEL", *parts_of(dropped, name))
    assert (await rebuild(log, name)).runs == 2
    assert all(0 < life_s <= 100 for life_s in await lives(log, parts_of(kept, name)))
    assert all(100 < life_s <= 200 for life_s in await lives(log, parts_of(dropped, name)))


async def lives(server: Server, keys: list[str]) -> list[int]:
    """How long these keys live, seconds."""
    return await server.execute_many([("TTL", key) for key in keys])


async def test_status_messages_are_not_brought_back(single: Server) -> None:
    """REPLAY-2: status messages that expired after a session's end stay gone, and others keep their time."""
    old, new = a_run(single), a_run(single)
    await write(single, old, conversation(old, 2))
    await write(single, new, [opened(new), final(0), ended(1, ended_ms=int(time.time() * 1000))])
    await project(single, [old, new])
    await single.execute("DEL", old.status, new.status)
    assert (await rebuild(single, "status")).runs == 2
    assert await single.execute("EXISTS", old.status) == 0
    assert 0 < await single.execute("TTL", new.status) <= 300


async def test_listeners_get_the_last_message_that_the_old_one_lacked(log: Server) -> None:
    """REPLAY-2: where the old feed was behind, listeners get the last message, and see by it that they missed some."""
    run, other = a_run(log), a_run(log)
    await write(log, run, conversation(run, 3)[:2])
    await write(log, other, conversation(other, 3))
    await project(log, [run, other])
    await write(log, run, [final(1), final(2)])
    received: list[FeedMessage] = []
    channels = [run.partition.feed_channel, other.partition.feed_channel]
    wakeups = Wakeups(
        log, list(dict.fromkeys(channels)), lambda _, data: received.append(decode_message(data)), lambda: None
    )
    await wakeups.start()
    await wakeups.listening()
    assert (await rebuild(log, "feeds")).behind == 1
    await eventually_async(lambda: received)
    assert [(one.member, one.previous, one.position) for one in received] == [(run.member, "2-0", "3-0")]
    await wakeups.stop()
    await project(log, [run])
    assert await log.execute("XLEN", run.feed) == 3


async def test_a_projector_continues_from_the_rebuilt_one(log: Server) -> None:
    """REPLAY-2, STITCH-3: facts that come after a rebuild are applied once, whether the old one was behind or not."""
    run = a_run(log)
    facts = conversation(run, 6)
    await write(log, run, facts[:3])
    await project(log, [run])
    await write(log, run, facts[3:5])
    for name in READ_MODELS:
        assert (await rebuild(log, name)).behind == 1
    await write(log, run, facts[5:])
    await project(log, [run])
    before = await remembered(log)
    await log.execute("DEL", *(key for name in READ_MODELS for key in parts_of(run, name) if key != run.status))
    await project(log, [run], ["lists", "feeds", "sessions"])
    after = await remembered(log)
    assert {key: value for key, value in after.items() if key != run.projected("status")} == {
        key: value for key, value in before.items() if key != run.projected("status")
    }


async def test_lost_facts_are_dropped(single: Server) -> None:
    """REPLAY-2: a read model with facts that a failover lost is rebuilt from those that remain."""
    run = a_run(single)
    await write(single, run, conversation(run, 3)[:4])
    await project(single, [run])
    await single.execute("XDEL", run.transcript, "3-0")
    report = await rebuild(single, "lists")
    assert (report.runs, report.failed) == (1, [])
    assert await single.execute("LLEN", run.list) == 2
    assert await single.execute("GET", run.projected("lists")) == b"2-0"


async def test_dead_letters_go_with_their_cause(single: Server) -> None:
    """REPLAY-2: facts that a broken read model refused are in the rebuilt one, and their dead letters are settled."""
    run, unreadable = a_run(single), a_run(single)
    await single.execute("SET", run.list, "rubbish")
    await write(single, run, conversation(run, 3))
    await write(single, unreadable, [*conversation(unreadable, 2)[:2], (Position(2, 0), b"{}")])
    await project(single, [run, unreadable], ["lists"])
    refused = [(run.member, fact) for fact in ("1-0", "2-0", "3-0", str(SEALED))]
    assert await letters(single) == sorted([*refused, (unreadable.member, "2-0")])
    report = await rebuild(single, "lists")
    assert (report.dead_letters_settled, report.dead_lettered) == (5, 1)
    assert await letters(single) == [(unreadable.member, "2-0")]
    assert await single.execute("LLEN", run.list) == 3


async def letters(server: Server) -> list[tuple[str, str]]:
    """Runs and facts of the dead letters of `lists`."""
    return sorted([
        (letter.keys.member, letter.fact) async for page in read_dead_letters(server, ["lists"]) for letter in page
    ])  # fmt: skip


async def test_a_promoted_replay_and_the_saved_live_run_are_rebuilt(log: Server) -> None:
    """REPLAY-2: while a replay is promoted, its own read models, readers' copy and the saved live ones are rebuilt."""
    live = a_run(log)
    replay = live.session.run("again")
    await write(log, live, conversation(live, 2))
    await write(log, replay, conversation(replay, 4))
    await project(log, [live, replay])
    [promoted] = await promote(log, [replay])
    assert promoted.code == Code.OK
    before = await remembered(log)
    session = live.session
    for key in (session.list, session.document, session.view, session.live_list, session.live_view, replay.view):
        await log.execute("DEL", key)
    for name in ("lists", "sessions"):
        assert (await rebuild(log, name)).failed == []
    assert await remembered(log) == before
    keys = [session.list, session.view, session.live_document]
    assert all(0 < life_s <= 86_400 for life_s in await lives(log, keys))


async def test_a_complete_rebuild_mends_a_listing_of_a_foreign_type(single: Server) -> None:
    """REPLAY-2: a partition's listing of a foreign type is replaced when all runs are rebuilt, not when some are."""
    runs = await some_runs(single)
    before = await remembered(single)
    await single.execute("DEL", runs[3].partition.open_runs)
    await single.execute("SET", runs[3].partition.open_runs, "rubbish")
    assert "foreign type" in (await rebuild(single, "sessions", runs[3])).failed[0][1]
    assert (await rebuild(single, "sessions")).failed == []
    assert await remembered(single) == before


async def test_runs_without_a_view_leave_the_listings(log: Server) -> None:
    """REPLAY-2: a listed run without a view is taken out of the listing, and no other."""
    runs = await some_runs(log)
    before = await remembered(log)
    unknown = a_run(log)
    for listing in (unknown.partition.open_runs, unknown.partition.ended_runs):
        await log.execute("ZADD", listing, 1, unknown.member)
    assert await drop_orphans(log) == 2
    assert await remembered(log) == before
    assert runs


async def test_two_rebuilds_at_once_do_no_harm(log: Server) -> None:
    """REPLAY-2: rebuilds of the same runs at the same time end equal, and each says that it is done."""
    runs = await some_runs(log)
    before = await remembered(log)
    other = await connect(log.url, partitions=len(log.keys.partitions))
    reports = await asyncio.gather(*(rebuild(server, "feeds", verify=False) for server in (log, other)))
    await other.close()
    assert [(report.runs, report.failed) for report in reports] == [(len(runs), [])] * 2
    assert await remembered(log) == before


async def test_an_interrupted_rebuild_leaves_nothing(log: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """REPLAY-2: cancelled midway, as by Ctrl-C, the old read models are untouched and no copies remain."""
    monkeypatch.setattr(module, "FACTS_AT_ONCE", 8)
    runs = await some_runs(log)
    before = await remembered(log)
    rebuilder = Rebuilder(projection("lists"), log, consumer="c", session_ttl_s=TTL_S)
    copies_seen: list[int] = []

    def interrupt(_: Report) -> None:
        copies_seen.append(len(rebuilder._copies))
        task.cancel()

    task = asyncio.create_task(rebuilder.run(each(runs[3:5]), interrupt))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert copies_seen in ([1], [2])
    assert await no_leftovers(log, *runs)
    assert await remembered(log) == before


async def test_an_unknown_run_is_reported(single: Server) -> None:
    """REPLAY-2: an unknown session can't be rebuilt, and nothing is made of it."""
    run = a_run(single)
    report = await rebuild(single, "lists", run)
    assert report.failed == [(run.member, "it has no facts, or none any more")]
    assert await no_leftovers(single, run)


async def test_unreadable_facts_leave_the_other_runs_alone(single: Server) -> None:
    """REPLAY-2: a run whose facts can't be read is unchanged and reported; the others are rebuilt."""
    broken, healthy = a_run(single), a_run(single)
    await write(single, healthy, conversation(healthy, 2))
    await single.execute("SET", broken.transcript, "rubbish")
    await single.execute("ZADD", broken.partition.index, 1, broken.member)
    rebuilder = Rebuilder(projection("lists"), single, consumer="c", session_ttl_s=TTL_S)
    report = await rebuilder.run(each([broken, healthy]), nothing)
    assert report.runs == 1
    assert [member for member, _ in report.failed] == [broken.member]
    assert await single.execute("LLEN", healthy.list) == 2
