"""Dead letters of sinks that are sent once more, and what an erasure leaves of them."""

from collections.abc import Sequence

from eventlog.positions import SEALED
from eventlog.projection.dead_letters import redrive
from eventlog.redis.server import Server
from eventlog.work.erasure import erase
from projections.forwarding.sink import Outcome, Result
from tests.integration.forwarding.forwarders import (
    FINALS,
    WAIT_S,
    conversations,
    dead_letters_of,
    event_positions,
    forwarding,
    has_dead_letters,
    is_at_position,
)
from tests.integration.forwarding.sinks import Failing, Recorder
from tests.integration.projections.facts import a_run, conversation, ended, final, opened, write
from tests.support.key_search import remains
from tests.support.waiting import eventually_async


async def test_a_redriven_dead_letter_is_sent_and_goes_away(log: Server) -> None:
    """A redriven event is made from the facts again, sent with the id that it had, and forgotten (BATCH-6)."""
    keys = a_run(log)
    failing = Failing(1, Outcome.REJECTED)
    sink = Recorder(failing)
    async with forwarding(log, sink):
        await write(log, keys, conversation(keys, 1))
        await eventually_async(lambda: has_dead_letters(log, 2), WAIT_S)
        dead_letters = await dead_letters_of(log)
        await redrive(log, dead_letters)
        await eventually_async(lambda: len(sink.taken) == 2, WAIT_S)
        await eventually_async(lambda: _has_redriven(log, 0), WAIT_S)
        assert await dead_letters_of(log) == []
    assert sorted(sink.ids) == sorted(dead_letter.event_id for dead_letter in dead_letters)
    assert sorted(sink.of(keys.session_id)) == sorted(event_positions(1))


async def test_a_redriven_dead_letter_that_fails_again_comes_back(log: Server) -> None:
    """A redriven event is tried as long as any other, then it is a dead letter again (BATCH-6)."""
    sink = Recorder(lambda _: Result(Outcome.RETRY, "down"))
    async with forwarding(log, sink, give_up_s=0.2):
        keys = a_run(log)
        await write(log, keys, conversation(keys, 0))
        await eventually_async(lambda: has_dead_letters(log, 1), WAIT_S)
        [before] = await dead_letters_of(log)
        await redrive(log, [before])

        async def is_back() -> bool:
            found = await dead_letters_of(log)
            return [dead_letter.event_id for dead_letter in found] == [before.event_id] and found[0].id != before.id

        await eventually_async(is_back, WAIT_S)
        assert await _has_redriven(log, 0)


async def test_an_unreadable_fact_can_be_redriven_once_it_can_be_read(log: Server) -> None:
    """A letter about a fact as such is judged again, and dead-lettered as long as nothing can read the fact."""
    keys, sink = a_run(log), Recorder()
    async with forwarding(log, sink):
        await write(log, keys, [opened(keys), (final(0)[0], b"{}"), ended(1)])
        await eventually_async(lambda: has_dead_letters(log, 1), WAIT_S)
        before = await dead_letters_of(log)
        await redrive(log, before)

        async def is_back() -> bool:
            found = await dead_letters_of(log)
            return len(found) == 1 and found[0].id != before[0].id

        await eventually_async(is_back, WAIT_S)
    assert sink.of(keys.session_id) == [str(SEALED)]


async def test_an_erased_session_leaves_nothing_with_a_sink(single: Server) -> None:
    """After an erasure neither letters of any kind nor a try under way hold a session, or bring it back (STITCH-5)."""
    gone = await conversations(single, 3)
    sink = Recorder(lambda _: Result(Outcome.REJECTED, "refused"))
    async with forwarding(single, sink):
        await eventually_async(lambda: has_dead_letters(single, 3 * (FINALS + 1)), WAIT_S)
        sink.answer = lambda _: Result(Outcome.RETRY, "down")
        await redrive(single, [letter for letter in await dead_letters_of(single) if letter.fact == "1-0"])
        more = await conversations(single, 2)
        requests = len(sink.requests)
        await eventually_async(lambda: len(sink.requests) > requests + 10, WAIT_S)
        for keys in (*gone, *more):
            await erase(single, keys.session, "tenant")
        requests = len(sink.requests)
        sink.answer = lambda _: Result(Outcome.REJECTED, "refused")
        [after] = await conversations(single, 1)
        await eventually_async(lambda: is_at_position(single, after), WAIT_S)
        await eventually_async(lambda: _forgotten(single, [keys.session_id for keys in (*gone, *more)]), WAIT_S)
    assert {dead_letter.keys.session_id for dead_letter in await dead_letters_of(single)} == {after.session_id}


async def _forgotten(log: Server, session_ids: Sequence[str]) -> bool:
    """Whether nothing but tombstones and notices, which `finish_erasures` drops, name these."""
    found = await remains(log, *session_ids)
    return {name.rpartition(":")[2] for name in found} <= {"erased", "changes"}



async def _has_redriven(log: Server, count: int) -> bool:
    lengths = [await log.execute("XLEN", partition.redriven("webhooks")) for partition in log.keys.partitions]
    return bool(sum(lengths) == count)


async def test_erasing_deletes_dead_letters_without_a_forwarder(single: Server) -> None:
    """An erasure deletes dead letters and redriven ones by itself, also where no process forwards (STITCH-5)."""
    sink = Recorder(lambda _: Result(Outcome.REJECTED, "refused"))
    async with forwarding(single, sink):
        [keys] = await conversations(single, 1)
        await eventually_async(lambda: has_dead_letters(single, FINALS + 1), WAIT_S)
    await redrive(single, (await dead_letters_of(single))[:2])
    assert await _has_redriven(single, 2)
    assert await has_dead_letters(single, FINALS - 1)
    await erase(single, keys.session, "tenant")
    assert {name.rpartition(":")[2] for name in await remains(single, keys.session_id)} == {"erased"}
