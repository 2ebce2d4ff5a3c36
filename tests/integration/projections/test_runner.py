"""Projections at work on real servers, with every hole opened under them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

import projections.projection_loop
from eventlog.events import SessionStarted, UtteranceFinal
from eventlog.keys import READ_MODELS, RunKeys
from eventlog.log import Checkpoint, Code, Commit
from eventlog.positions import SEALED, START, Position
from eventlog.projection.projection_log import ProjectionLog
from eventlog.readmodel.documents import ListedFinal
from eventlog.readmodel.feed import FeedKind, FeedMessage, decode_message, read_feed
from eventlog.readmodel.listings import list_sessions, read_metrics, sweep_open_runs
from eventlog.readmodel.views import read_document, read_list, read_transcript, read_view
from eventlog.redis.redis_log import RedisLog
from eventlog.redis.server import Server, connect
from eventlog.redis.wakeups import Wakeups
from eventlog.work import heartbeats
from eventlog.work.claims import Claims
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.runner import ProjectionRunner
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.projections.facts import a_run, conversation, ended, final, opened, write
from tests.support.servers import Server as TestServer
from tests.support.waiting import eventually_async

TTL_S = 1000


def all_projections() -> list[Projection]:
    """Those that a deployment runs."""
    return [Lists(), Feeds(), Sessions(session_ttl_s=TTL_S), Status()]


@asynccontextmanager
async def running(
    log: Server, consumer: str = "c1", projections: Sequence[Projection] | None = None
) -> AsyncIterator[ProjectionRunner]:
    """A runner at work."""
    runner = ProjectionRunner(
        log, projections or all_projections(), consumer, session_ttl_s=TTL_S
    )
    await runner.start()
    await runner.listening()
    yield runner
    await runner.stop()


async def is_projected(log: Server, keys: RunKeys, end: Position = SEALED) -> bool:
    """True once each projection has applied everything up to `end`."""
    stored = await log.execute_many([("GET", keys.projected(name)) for name in READ_MODELS])
    return stored == [str(end).encode()] * len(READ_MODELS)


async def is_right(log: Server, keys: RunKeys, count: int) -> None:
    """Asserts that List, feed, document and view are those of a conversation of `count` finals, each exactly once."""
    texts = [f"words {number}." for number in range(count)]
    assert [entry.text for entry in await read_list(log, keys)] == texts
    events = await read_feed(log, keys, START)
    assert [str(position) for position, _ in events] == [*(f"{number + 1}-0" for number in range(count)), str(SEALED)]
    document = await read_document(log, keys)
    assert document is not None
    assert document.transcript == " ".join(texts)
    view = await read_view(log, keys)
    assert view is not None
    assert (view.state, view.finals, view.reason) == ("CLOSED", count, "stop")


async def test_facts_become_read_models(log: Server) -> None:
    """Committed facts reach List, feed, document and view exactly once each (STITCH-2, STITCH-3, STITCH-4)."""
    runs = [a_run(log) for _ in range(20)]
    async with running(log):
        for keys in runs:
            for fact in conversation(keys, 3):
                await write(log, keys, [fact])
        for keys in runs:
            await eventually_async(lambda keys=keys: is_projected(log, keys))  # type: ignore[misc]
            await is_right(log, keys, 3)


async def test_listeners_get_each_event_once_and_notice_of_the_document(log: Server) -> None:
    """The channel carries each event in order with the id before it, and says when the document is there."""
    keys = a_run(log)
    received: list[FeedMessage] = []
    listener = Wakeups(
        log, [keys.partition.feed_channel], lambda _, data: received.append(decode_message(data)), lambda: None
    )
    await listener.start()
    await listener.listening()
    async with running(log, projections=[Lists(), Feeds()]):
        for fact in conversation(keys, 3):
            await write(log, keys, [fact])
        await eventually_async(lambda: len(received) == 5)
    await listener.stop()
    events = [message for message in received if message.kind == FeedKind.EVENT]
    assert [(event.previous, event.position) for event in events] == [
        ("0-0", "1-0"), ("1-0", "2-0"), ("2-0", "3-0"), ("3-0", str(SEALED)),
    ]
    assert {message.member for message in received} == {keys.member}
    assert msgspec.json.decode(events[0].body, type=ListedFinal).text == "words 0."


async def test_lost_notices_and_wakeups_cost_a_walk_at_most(log: Server) -> None:
    """Facts whose notices never came are found by walking the index once that is ordered."""
    keys = a_run(log)
    async with running(log):
        await write(log, keys, conversation(keys, 5), with_notice=False)
        for name in READ_MODELS:
            await log.execute("HSET", keys.partition.walks, name, "token")
        await eventually_async(lambda: is_projected(log, keys))
        await is_right(log, keys, 5)


async def test_a_late_notice_brings_what_earlier_lost_ones_announced(log: Server) -> None:
    """Any notice of a run brings all of its news, so lost ones, doubled ones and their order don't matter."""
    keys = a_run(log)
    facts = conversation(keys, 6)
    async with running(log):
        await write(log, keys, facts[:5], with_notice=False)
        await write(log, keys, facts[5:])
        await write(log, keys, [])
        await write(log, keys, [])
        await eventually_async(lambda: is_projected(log, keys))
        await is_right(log, keys, 6)


async def test_facts_from_before_the_first_start_are_projected(log: Server) -> None:
    """A projection that starts later than the sessions catches up, also where `changes` is gone."""
    one, two = a_run(log), a_run(log)
    await write(log, one, conversation(one, 3))
    await write(log, two, conversation(two, 450), with_notice=False)
    async with running(log):
        for keys, count in ((one, 3), (two, 450)):
            await eventually_async(lambda keys=keys: is_projected(log, keys))  # type: ignore[misc]
            await is_right(log, keys, count)


async def test_a_consumer_that_dies_between_pull_and_apply_is_replaced(
    log: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notices that a dead consumer held are taken over, and its facts are applied once."""
    monkeypatch.setattr(projections.projection_loop, "ABANDONED_MS", 50)
    monkeypatch.setattr(projections.projection_loop, "SWEEP_S", 0.05)
    keys = a_run(log)
    dead = [ProjectionLog(log, name, "dead", session_ttl_s=TTL_S) for name in READ_MODELS]
    for of in dead:
        [news] = await of.read_notices([keys.partition])
        await of.finish_walk(keys.partition, news.walk)
    await write(log, keys, conversation(keys, 4))
    for of in dead:
        await of.read_notices([keys.partition])
        await of.pull([keys])
    async with running(log, "living"):
        await eventually_async(lambda: is_projected(log, keys))
        await is_right(log, keys, 4)
        pending = await log.execute("XPENDING", keys.partition.changes, "lists")
        await eventually_async(lambda: nothing_pending(log, keys), message=f"acked: {pending}")


async def nothing_pending(log: Server, keys: RunKeys) -> bool:
    """True once every notice of the partition is acked."""
    return int((await log.execute("XPENDING", keys.partition.changes, "lists"))[0]) == 0


async def test_a_restarted_consumer_continues_where_it_was(log: Server) -> None:
    """Stopping and starting again between any two facts leaves nothing out and doubles nothing."""
    keys = a_run(log)
    facts = conversation(keys, 4)
    for number in range(0, len(facts), 2):
        async with running(log):
            await write(log, keys, facts[number : number + 2])
            await eventually_async(lambda end=facts[number + 1][0]: is_projected(log, keys, end))  # type: ignore[misc]
    await is_right(log, keys, 4)


async def test_several_processes_share_the_work_without_doubling_it(log: Server) -> None:
    """Two consumers of the same projections write each final once (STITCH-3)."""
    runs = [a_run(log) for _ in range(10)]
    other = await connect(log.url)
    async with running(log, "one"), running(other, "two"):
        for number in range(6):
            await asyncio.gather(*(write(log, keys, [conversation(keys, 4)[number]]) for keys in runs))
        for keys in runs:
            await eventually_async(lambda keys=keys: is_projected(log, keys))  # type: ignore[misc]
            await is_right(log, keys, 4)
    await other.close()


async def test_a_broken_list_never_stops_the_feed(log: Server) -> None:
    """A List that can't be written dead-letters its finals, while feed and view continue (STITCH-2, STITCH-7)."""
    keys, healthy = a_run(log), a_run(log)
    await log.execute("SET", keys.list, "another type")
    async with running(log):
        await write(log, keys, conversation(keys, 3))
        await write(log, healthy, conversation(healthy, 3))
        await eventually_async(lambda: is_projected(log, keys))
        await eventually_async(lambda: is_projected(log, healthy))
    assert len(await read_feed(log, keys, START)) == 4
    await is_right(log, healthy, 3)
    letters = await log.execute("XRANGE", keys.partition.dead_letters("lists"), "-", "+")
    found = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in letters]
    assert [(letter[b"fact"], letter[b"reason"]) for letter in found] == [
        (b"1-0", b"RPUSH meets a string"), (b"2-0", b"RPUSH meets a string"), (b"3-0", b"RPUSH meets a string"),
        (str(SEALED).encode(), b"ResponseError"),
    ]
    assert {letter[b"run"] for letter in found} == {keys.member.encode()}
    assert b"words" not in b"".join(b"".join(letter.values()) for letter in found)


async def test_an_undecodable_fact_is_dead_lettered_by_each(log: Server) -> None:
    """Each projection dead-letters a fact of no known version once, and projects the rest."""
    keys = a_run(log)
    facts: list[tuple[Position, object]] = list(conversation(keys, 3))
    facts[2] = (Position(2, 0), b'{"event":"utterance_final.v99","text":"secret words"}')
    async with running(log):
        await write(log, keys, facts)  # type: ignore[arg-type]
        await eventually_async(lambda: is_projected(log, keys))
    for name in READ_MODELS:
        [[_, fields]] = await log.execute("XRANGE", keys.partition.dead_letters(name), "-", "+")
        assert fields[1::2] == [name.encode(), keys.member.encode(), b"2-0", b"undecodable", b"c1"]
    assert [entry.utterance for entry in await read_list(log, keys)] == [0, 2]


async def test_projections_outlive_a_stalled_redis(single: Server, standalone: TestServer) -> None:
    """While Redis does not answer nothing is lost, and once it does the projections continue."""
    keys = a_run(single)
    impatient = await connect(standalone.url, timeout_s=0.1)
    async with running(impatient):
        await write(single, keys, conversation(keys, 3)[:2])
        standalone.pause_ms(400)
        await write(single, keys, conversation(keys, 3)[2:])
        await eventually_async(lambda: is_projected(single, keys))
        await is_right(single, keys, 3)
    await impatient.close()


async def test_projections_write_heartbeats(single: Server) -> None:
    """Each projection has a heartbeat with what it has done (SESS-5)."""
    async with running(single, "me"):
        await eventually_async(lambda: heartbeats_of(single, len(READ_MODELS)))
        found = await heartbeats.read_all(single)
    assert {beat.role for beat in found} == {f"projection.{name}" for name in READ_MODELS}
    assert {beat.consumer for beat in found} == {"me"}
    assert all(beat.age_ms < 10_000 and beat.payload["applied"] == 0 for beat in found)


async def heartbeats_of(log: Server, count: int) -> bool:
    """True once so many roles are alive."""
    return len(await heartbeats.read_all(log)) == count


async def test_sessions_are_listed_latest_first(log: Server) -> None:
    """Open sessions come before ended ones, the latest first, and any state can be asked for (SESS-4)."""
    runs = [a_run(log) for _ in range(4)]
    async with running(log):
        for number, keys in enumerate(runs):
            count = [0, 1, 1, 1][number]
            facts = [opened(keys, opened_ms=number + 1), *(final(n) for n in range(count))]
            await write(log, keys, [*facts, *([ended(count)] if number > 1 else [])])
        for number, keys in enumerate(runs):
            end = [Position(0, 1), Position(1, 0), SEALED, SEALED][number]
            await eventually_async(lambda keys=keys, end=end: is_projected(log, keys, end))  # type: ignore[misc]
    found = (await list_sessions(log)).views
    assert [view.session_id for view in found[:2]] == [runs[1].session_id, runs[0].session_id]
    assert [view.state for view in found] == ["ACTIVE", "CREATED", "CLOSED", "CLOSED"]
    assert [view.state for view in (await list_sessions(log, state="CLOSED", limit=1)).views] == ["CLOSED"]
    metrics = await read_metrics(log)
    assert (metrics.open, metrics.ended, metrics.finals, metrics.audio_seconds) == (2, 2, 1, 1.5)


async def test_a_view_counts_audio_that_is_appended_and_not_yet_processed(single: Server) -> None:
    """An open session's view adds audio and lag from the log's own state."""
    keys = a_run(single)
    async with running(single):
        await write(single, keys, [opened(keys)])
        await eventually_async(lambda: is_projected(single, keys, Position(0, 1)))
    await single.execute("HSET", keys.session.session, "guard", "1 48000-0")
    await single.execute("HSET", keys.checkpoint, "cursor", "16000-0")
    view = await read_view(single, keys)
    assert view is not None
    assert (view.audio_seconds, view.lag_seconds) == (3.0, 2.0)


async def test_an_open_run_whose_view_is_gone_is_listed_no_longer(log: Server) -> None:
    """A run that expired or was erased leaves the list of open runs at the next sweep."""
    kept, lost = a_run(log), a_run(log)
    async with running(log):
        for keys in (kept, lost):
            await write(log, keys, [opened(keys)])
        for keys in (kept, lost):
            await eventually_async(lambda keys=keys: is_projected(log, keys, Position(0, 1)))  # type: ignore[misc]
    await log.execute("DEL", lost.view)
    assert await sweep_open_runs(log) == 1
    assert await sweep_open_runs(log) == 0
    assert [view.session_id for view in (await list_sessions(log)).views] == [kept.session_id]


async def test_a_live_transcript_is_stitched_on_the_fly(single: Server) -> None:
    """Before the end the List is the transcript; unknown runs have none, silent ones an empty one (STITCH-6)."""
    silent, talking, unknown = a_run(single), a_run(single), a_run(single)
    async with running(single):
        await write(single, silent, conversation(silent, 0))
        await write(single, talking, [opened(talking), final(0), final(1)])
        await eventually_async(lambda: is_projected(single, silent))
        await eventually_async(lambda: is_projected(single, talking, Position(2, 0)))
    assert await read_transcript(single, unknown) is None
    found = await read_transcript(single, silent)
    assert found is not None
    assert (found.is_final, found.transcript) == (True, "")
    found = await read_transcript(single, talking)
    assert found is not None
    assert (found.is_final, found.transcript) == (False, "words 0. words 1.")


async def test_text_never_reaches_the_logs(single: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with a fact, its text is not logged."""
    caplog.set_level("DEBUG")
    keys = a_run(single)
    _, fact = final(0, "a secret sentence")
    assert isinstance(fact, UtteranceFinal)
    await single.execute("SET", keys.list, "x")
    async with running(single):
        unreadable = (Position(2, 0), b'{"text":"a secret sentence"}')
        await write(single, keys, [opened(keys), (Position(1, 0), fact), unreadable])
        await eventually_async(lambda: is_projected(single, keys, Position(2, 0)))
    assert "secret" not in caplog.text
    assert "facts dead-lettered" in caplog.text


async def test_commits_of_a_real_claim_holder_are_projected(log: Server) -> None:
    """From opening a session over fenced commits to its end, the log's own scripts feed the projections."""
    events, claims = RedisLog(log, session_ttl_s=TTL_S), Claims(log, "w1", lease_ms=5000, session_ttl_s=TTL_S)
    keys = a_run(log)
    facts = conversation(keys, 2)
    async with running(log):
        await claims.ensure_groups()
        start = SessionStarted(session_id=keys.session_id, sample_rate_hz=16_000, started_ms=1)
        await events.open(keys.session, start, "hash")
        [claim] = await claims.take_new([keys.partition], 1)
        for serial, fact in enumerate(facts[1:], start=1):
            checkpoint = Checkpoint(serial=serial, utterance=min(serial, 2))
            [answer] = await events.commit([Commit(claim, checkpoint, [fact], ends=fact[0] == SEALED)])
            assert answer.code == Code.OK
        await eventually_async(lambda: is_projected(log, keys))
        await is_right(log, keys, 2)
