"""Forwarders at work on real servers, with sinks that fail as a test sets and every failure caused under them."""

import logging
from collections.abc import Sequence

import pytest

from eventlog.log import LogUnavailableError
from eventlog.positions import SEALED, START, Position
from eventlog.projection.projection_log import Applied, Apply, ProjectionLog
from eventlog.redis.server import Server
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event, Kind, batch_kinds
from tests.integration.forwarding.forwarders import (
    FINALS,
    WAIT_S,
    all_sent,
    conversations,
    dead_letters_of,
    event_positions,
    forwarding,
    has_all,
    is_at_position,
    position_of,
    recording,
)
from tests.integration.forwarding.sinks import Failing, Recorder, position
from tests.integration.projections import facts
from tests.integration.projections.facts import a_run, conversation, ended, final, opened, write
from tests.support.servers import Server as TestServer
from tests.support.waiting import eventually_async


async def test_events_of_every_run_arrive_in_order_once(log: Server) -> None:
    """Committed facts reach the sink in order per session, each event once while nothing fails (BATCH-6)."""
    sink = Recorder()
    async with forwarding(log, sink):
        runs = await conversations(log, 30)
        await eventually_async(lambda: all_sent(sink, runs), WAIT_S)
        await eventually_async(lambda: is_at_position(log, runs[0]), WAIT_S)
    assert len(set(sink.ids)) == len(sink.ids) == 30 * (FINALS + 1)
    assert (sink.starts, sink.stops > 0) == (1, True)
    assert await dead_letters_of(log) == []


@pytest.mark.parametrize("with_words", [False, True])
async def test_words_are_forwarded_by_a_setting(single: Server, *, with_words: bool) -> None:
    """Events hold words if the forwarder is set to send them, and none otherwise (WORD-3)."""
    sink, keys = Recorder(), a_run(single)
    said = facts.with_words(final(0)[1])
    await write(single, keys, [opened(keys), (Position(1, 0), said), ended(1)])
    async with forwarding(single, sink, with_words=with_words):
        await eventually_async(lambda: is_at_position(single, keys), WAIT_S)
    assert [one.body.get("words") is not None for one in sink.taken] == [with_words, False]


async def test_a_long_run_takes_many_calls(log: Server) -> None:
    """A run with more facts than one pull brings, and more events than a call takes, is sent whole and in order."""
    sink = Recorder()
    async with forwarding(log, sink):
        runs = await conversations(log, 2, finals=450)
        await eventually_async(lambda: all_sent(sink, runs, 450), WAIT_S)


async def test_events_from_before_the_first_start_are_sent(log: Server) -> None:
    """Facts without any notice left are found by the walk over a newly assigned partition."""
    runs = [a_run(log) for _ in range(5)]
    for keys in runs:
        await write(log, keys, conversation(keys, FINALS), with_notice=False)
    sink = Recorder()
    async with forwarding(log, sink):
        await eventually_async(lambda: all_sent(sink, runs), WAIT_S)


async def test_notices_that_another_took_and_never_sent_do_not_matter(log: Server) -> None:
    """Events whose notices a forwarder acked before it died are sent by the next holder of its partitions (BATCH-6)."""
    dead = ProjectionLog(log, "webhooks", "dead", session_ttl_s=1000)
    for news in await dead.read_notices(log.keys.partitions):  # makes the groups
        await dead.finish_walk(news.partition, news.walk)
    runs = await conversations(log, 10)
    for news in await dead.read_notices(log.keys.partitions):
        await dead.ack({news.partition: [notice for notice, _ in news.notices]})
    sink = Recorder()
    async with forwarding(log, sink):
        await eventually_async(lambda: all_sent(sink, runs), WAIT_S)


async def test_runs_without_news_are_walked_over_at_once(single: Server) -> None:
    """Thousands of runs without news cost a new holder of their partitions no more than a few reads."""
    old = [a_run(single) for _ in range(3000)]
    await single.execute_many([
        command for keys in old for command in (
            ("ZADD", keys.partition.index, 1, keys.member), ("SET", keys.projected("webhooks"), str(SEALED)),
        )
    ])  # fmt: skip
    new = a_run(single)
    await write(single, new, conversation(new, FINALS), with_notice=False)
    sink = Recorder()
    async with forwarding(single, sink, lease_ms=60_000) as forwarder:
        await eventually_async(lambda: all_sent(sink, [new]), WAIT_S)
        await eventually_async(lambda: forwarder.is_idle, WAIT_S)


async def test_facts_without_events_move_the_position(log: Server) -> None:
    """A session without events for a sink costs it a position and nothing else."""
    sink = Recorder(kinds=batch_kinds)
    async with forwarding(log, sink):
        [keys] = await conversations(log, 1)
        await eventually_async(lambda: is_at_position(log, keys), WAIT_S)
    assert sink.requests == []


async def test_a_replay_makes_no_events(log: Server) -> None:
    """Sinks receive events of the live run alone (BATCH-4)."""
    replay, live = a_run(log, "r1"), a_run(log)
    sink = Recorder()
    async with forwarding(log, sink):
        for keys in (replay, live):
            await write(log, keys, conversation(keys, FINALS))
        await eventually_async(lambda: all_sent(sink, [live]), WAIT_S)
    assert sink.of(replay.session_id) == []
    assert await position_of(log, replay) == ""


@pytest.mark.parametrize("finals", [2, 450])
async def test_a_recordings_end_holds_all_that_was_said(log: Server, finals: int) -> None:
    """The event of a recording's end holds all of its transcript, also where that is many pages long (BATCH-4)."""
    keys, sink = a_run(log), Recorder(kinds=batch_kinds)
    async with forwarding(log, sink):
        await write(log, keys, [recording(keys), *(final(number) for number in range(finals))])
        await eventually_async(lambda: is_at_position(log, keys, f"{finals}-0"), WAIT_S)
        await write(log, keys, [ended(finals)])
        await eventually_async(lambda: len(sink.taken) == 1, WAIT_S)
    [event] = sink.taken
    assert event.kind is Kind.BATCH_COMPLETED
    assert event.body["data"]["raw_transcript"] == " ".join(f"words {number}." for number in range(finals))


async def test_a_failing_event_is_retried_and_holds_up_no_other_run(log: Server) -> None:
    """A run whose event fails is tried again in order with the same ids, while the others continue (BATCH-6)."""
    bad = a_run(log)
    failing = Failing(3)
    sink = Recorder(lambda event: failing(event) if event.session_id == bad.session_id else SENT)
    async with forwarding(log, sink):
        await write(log, bad, conversation(bad, FINALS))
        runs = await conversations(log, 10)
        await eventually_async(lambda: all_sent(sink, runs), WAIT_S)
        await eventually_async(lambda: all_sent(sink, [bad]), WAIT_S)
        assert await dead_letters_of(log) == []
    of_bad = [event for event in sink.requests if event.session_id == bad.session_id]
    assert len({event.event_id for event in of_bad}) == FINALS + 1
    assert len({(event.event_id, str(event.body)) for event in of_bad}) == FINALS + 1


async def test_an_event_that_fails_for_too_long_becomes_a_dead_letter(log: Server) -> None:
    """An event retried past the bound is dead-lettered, without its text, and the next ones are sent (BATCH-6)."""
    keys = a_run(log)
    bad = "1-0"
    sink = Recorder(lambda event: Result(Outcome.RETRY, "throttled") if position(event) == bad else SENT)
    async with forwarding(log, sink, give_up_s=0.3):
        await write(log, keys, conversation(keys, FINALS))
        await eventually_async(lambda: is_at_position(log, keys), WAIT_S)
    assert sink.of(keys.session_id) == event_positions(FINALS)[1:]
    [dead_letter] = await dead_letters_of(log)
    assert (dead_letter.keys.member, dead_letter.fact, dead_letter.reason) == (keys.member, bad, "throttled")
    assert dead_letter.kind == "TranscriptUtterance"
    assert dead_letter.event_id in {event.event_id for event in sink.requests}
    assert dead_letter.attempts >= 2
    assert "words" not in str(dead_letter)


async def test_a_rejected_event_is_a_dead_letter_at_once(log: Server) -> None:
    """A refused event is asked about once, and is a dead letter then (BATCH-6)."""
    keys = a_run(log)
    sink = Recorder(Failing(1, Outcome.REJECTED))
    async with forwarding(log, sink):
        await write(log, keys, conversation(keys, 1))
        await eventually_async(lambda: is_at_position(log, keys), WAIT_S)
    assert sink.taken == []
    assert len(sink.requests) == len(await dead_letters_of(log)) == 2


async def test_a_sink_that_is_off_keeps_nothing(log: Server) -> None:
    """While a sink is off positions move and nothing is kept for later (BATCH-5)."""
    keys = a_run(log)
    sink = Recorder(lambda _: Result(Outcome.SKIPPED))
    async with forwarding(log, sink) as forwarder:
        await write(log, keys, conversation(keys, 1))
        await eventually_async(lambda: is_at_position(log, keys), WAIT_S)
        assert (forwarder.stats.skipped, forwarder.stats.forwarded) == (2, 0)
    assert await dead_letters_of(log) == []


class Rude(Recorder):
    """Raises at its first calls, then answers for too few events, then behaves."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """See `Sink`."""
        self.calls += 1
        if self.calls == 1:
            raise LookupError(str(events))
        if self.calls == 2:
            return []
        return await super().send(events)


async def test_a_sink_with_a_defect_loses_nothing(single: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A sink that raises or answers nonsense is tried again, and no text gets into the logs with it (BATCH-9)."""
    sink = Rude()
    with caplog.at_level(logging.DEBUG):
        async with forwarding(single, sink):
            runs = await conversations(single, 1)
            await eventually_async(lambda: all_sent(sink, runs), WAIT_S)
    records = [str(vars(record)) for record in caplog.records if record.name.startswith("projections")]
    assert any("LookupError" in record for record in records)
    assert not any("words 0" in record for record in records)


async def test_an_unreadable_fact_becomes_a_dead_letter(log: Server) -> None:
    """A fact of no known version goes to the sink's dead letters, and the events after it are sent."""
    keys, sink = a_run(log), Recorder()
    async with forwarding(log, sink):
        facts = conversation(keys, 2)
        await write(log, keys, [facts[0], (facts[1][0], b'{"event":"none.v9"}'), *facts[2:]])
        await eventually_async(lambda: is_at_position(log, keys), WAIT_S)
    assert sink.of(keys.session_id) == event_positions(2)[1:]
    [dead_letter] = await dead_letters_of(log)
    assert (dead_letter.fact, dead_letter.reason, dead_letter.kind) == ("1-0", "undecodable", "")


async def test_a_stalled_redis_loses_nothing(single: Server, standalone: TestServer) -> None:
    """While Redis doesn't answer nothing is lost, and everything arrives once it does (BATCH-6)."""
    sink = Recorder()
    async with forwarding(single, sink):
        before = await conversations(single, 3)
        await eventually_async(lambda: all_sent(sink, before), WAIT_S)
        standalone.pause_ms(2500)
        after = await conversations(single, 3)
        await eventually_async(lambda: has_all(sink, after), WAIT_S)


async def test_progress_whose_answer_was_lost_is_written_again(
    single: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position whose writing failed is written when Redis is back, and no event is sent again (BATCH-6)."""
    sink = Recorder()
    lost: list[int] = []
    apply = ProjectionLog.apply

    async def losing(self: ProjectionLog, applies: Sequence[Apply]) -> list[Applied]:
        answers = await apply(self, applies)
        if len(lost) < 3:
            lost.append(len(applies))
            raise LogUnavailableError("the answer was lost")
        return answers

    monkeypatch.setattr(ProjectionLog, "apply", losing)
    async with forwarding(single, sink) as forwarder:
        runs = await conversations(single, 5)
        await eventually_async(lambda: has_all(sink, runs), WAIT_S)
        await eventually_async(lambda: len(lost) == 3 and forwarder.is_idle, WAIT_S)
        assert await is_at_position(single, runs[-1])
    assert len(sink.ids) == len(set(sink.ids))


async def test_a_position_that_another_moved_is_believed(single: Server) -> None:
    """A forwarder whose progress is refused since another was faster continues from where that one stands."""
    keys, sink = a_run(single), Recorder()
    sink.gate.clear()
    async with forwarding(single, sink):
        await write(single, keys, [opened(keys), final(0)])
        await eventually_async(lambda: sink.under_way > 0, WAIT_S)
        other = ProjectionLog(single, "webhooks", "another", session_ttl_s=1000)
        await other.apply([Apply(keys, START, final(1)[0], ())])
        await write(single, keys, [final(1), final(2)])
        sink.gate.set()
        await eventually_async(lambda: is_at_position(single, keys, "3-0"), WAIT_S)
    assert sink.of(keys.session_id) == ["1-0", "3-0"]


async def test_notices_do_not_pile_up(log: Server) -> None:
    """What a forwarder has noted it acks, so that notices can be freed."""
    sink = Recorder()
    async with forwarding(log, sink):
        runs = await conversations(log, 10)
        await eventually_async(lambda: all_sent(sink, runs), WAIT_S)

        async def all_acked() -> bool:
            for partition in log.keys.partitions:
                if await log.execute("EXISTS", partition.changes):
                    found = await log.execute("XPENDING", partition.changes, "webhooks")
                    assert found[0] == 0
            return True

        await eventually_async(all_acked, WAIT_S)


async def test_kinds_that_need_the_transcript_fail_without_it(single: Server) -> None:
    """A recording of which a final can't be read is a dead letter rather than an event with a gap (BATCH-4)."""
    keys, sink = a_run(single), Recorder(kinds=batch_kinds)
    async with forwarding(single, sink):
        await write(single, keys, [recording(keys), (final(0)[0], b"{}"), final(1), ended(2)])
        await eventually_async(lambda: is_at_position(single, keys), WAIT_S)
    assert sink.requests == []
    assert {(one.fact, one.reason) for one in await dead_letters_of(single)} == {
        ("1-0", "undecodable"), (str(SEALED), "a fact of the run can't be read"),
    }  # fmt: skip
