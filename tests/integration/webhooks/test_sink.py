"""The sink, called as a forwarder calls it, against real receivers."""

import asyncio

import pytest

from eventlog.projection.webhook_subscriptions import KINDS, Subscriptions
from eventlog.redis.server import Server
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Kind
from projections.webhooks import Webhooks, delivery_queue
from projections.webhooks.circuit_breaker import LONGEST_OPEN_S
from projections.webhooks.deliverer import MOST_AT_ONCE
from projections.webhooks.delivery_queue import HELD_UP_S
from tests.integration.webhooks.receivers import (
    SAID,
    Receiver,
    Reply,
    make_event,
    outcomes,
    receiving,
    subscribe,
    utterances,
)
from tests.support.clock import Clock
from tests.support.waiting import eventually_async

WAIT_S = 30.0


async def test_an_event_is_posted_signed(sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver) -> None:
    """A subscription gets its event as a signed POST with the event's own id."""
    await subscribe(subscriptions, receiver)
    one = make_event()
    assert await sink.send([one]) == [SENT]
    [post] = receiver.posts
    assert (post.path, post.event_id, post.content["data"]) == ("/hook", one.event_id, one.body)
    assert receiver.signed(post)


async def test_each_gets_the_kinds_that_it_named(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """Subscriptions get the kinds that they named, of their own tenant; an event without one is skipped."""
    await subscribe(subscriptions, receiver, ["BatchProcessingCompleted"])
    await subscribe(subscriptions, other, KINDS)
    kinds = [Kind.UTTERANCE, Kind.SESSION_ENDED, Kind.BATCH_COMPLETED]
    events = [make_event(number, kind) for number, kind in enumerate(kinds)]
    foreign = make_event(9, Kind.SESSION_ENDED, "s2", "elsewhere")
    assert await sink.send([*events, foreign]) == [SENT, SENT, SENT, Result(Outcome.SKIPPED)]
    assert receiver.event_ids == [events[2].event_id]
    assert other.event_ids == [one.event_id for one in events]


async def test_no_event_to_send_is_no_error(sink: Webhooks) -> None:
    """A call without events, and one without subscriptions, come to nothing."""
    assert await sink.send([]) == []
    assert outcomes(await sink.send([make_event()])) == [Outcome.SKIPPED]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429])
async def test_a_transient_failure_is_retried(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, status: int, clock: Clock
) -> None:
    """A server's error, and the few others that may pass, leave an event for later, with its status as the reason."""
    made = await subscribe(subscriptions, receiver)
    receiver.replies.append(Reply(status))
    [result] = await sink.send([make_event()])
    assert result == Result(Outcome.RETRY, f"webhook {made.id}: answered {status}")
    clock.now_s += LONGEST_OPEN_S
    assert await sink.send([make_event()]) == [SENT]
    assert receiver.taken == [make_event().event_id]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 405, 413, 422, 451])
async def test_a_permanent_failure_is_rejected(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver, status: int
) -> None:
    """Any other answer is final, redirects aren't followed, and the reason names subscription and status alone."""
    made = await subscribe(subscriptions, receiver)
    receiver.replies.append(Reply(status, {"location": other.url}, SAID.encode()))
    assert await sink.send([make_event()]) == [Result(Outcome.REJECTED, f"webhook {made.id}: answered {status}")]
    assert (len(receiver.posts), len(other.posts)) == (1, 0)


async def test_a_receiver_that_closes_or_is_not_there_is_tried_again(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """A connection that is cut, or isn't to be had, leaves the event for later."""
    await subscribe(subscriptions, receiver)
    receiver.replies.append(Reply(cut=True))
    assert outcomes(await sink.send([make_event()])) == [Outcome.RETRY]
    assert await sink.send([make_event()]) == [SENT]
    async with receiving() as closed:
        await subscribe(subscriptions, closed, tenant_id="elsewhere")
    assert outcomes(await sink.send([make_event(tenant_id="elsewhere")])) == [Outcome.RETRY]


async def test_a_receiver_without_an_answer_is_tried_again(
    redis: Server, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """A request has a bound, after which the event is for later."""
    made = await subscribe(subscriptions, receiver)
    held = asyncio.Event()
    receiver.replies.append(Reply(held=held))
    sink = Webhooks(redis, private=True, timeout_s=0.2, hold_s=WAIT_S)
    assert await sink.send([make_event()]) == [Result(Outcome.RETRY, f"webhook {made.id}: no answer within 0.2 s")]
    held.set()
    await sink.stop()


async def test_a_slow_receiver_holds_no_call_up(
    redis: Server, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """A call ends while a slow request continues, which is waited for by the next call rather than made again."""
    await subscribe(subscriptions, receiver)
    await subscribe(subscriptions, other, tenant_id="elsewhere")
    held = asyncio.Event()
    receiver.replies.append(Reply(held=held))
    sink = Webhooks(redis, private=True, timeout_s=WAIT_S, hold_s=0.2)
    slow, quick = make_event(session="s1"), make_event(session="s2", tenant_id="elsewhere")
    async with asyncio.timeout(WAIT_S / 2):
        results = await sink.send([slow, quick])
    assert results[0].outcome is Outcome.RETRY
    await eventually_async(lambda: other.taken == [quick.event_id], WAIT_S)
    assert outcomes(await sink.send([slow])) == [Outcome.RETRY]
    held.set()
    await eventually_async(lambda: receiver.taken == [slow.event_id], WAIT_S)

    async def is_sent() -> bool:
        return await sink.send([slow]) == [SENT]

    await eventually_async(is_sent, WAIT_S)
    assert len(receiver.posts) == 1
    await sink.stop()


async def test_one_subscription_takes_a_bounded_part(
    redis: Server, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """A hanging receiver has so many requests under way and no more, and what waited behind them isn't sent late."""
    await subscribe(subscriptions, receiver)
    receiver.always = Reply(held=asyncio.Event())
    sink = Webhooks(redis, private=True, timeout_s=WAIT_S, hold_s=0.5)
    events = [make_event(session=f"s{number}") for number in range(2 * MOST_AT_ONCE)]
    assert set(outcomes(await sink.send(events))) == {Outcome.RETRY}
    await eventually_async(lambda: receiver.most_at_once == MOST_AT_ONCE, WAIT_S)
    assert receiver.always.held is not None
    receiver.always.held.set()
    await eventually_async(lambda: not sink._queues._queues, WAIT_S)
    assert len(receiver.posts) == MOST_AT_ONCE

    async def are_sent() -> bool:
        return await sink.send(events) == [SENT] * len(events)

    await eventually_async(are_sent, WAIT_S)
    assert receiver.most_at_once == MOST_AT_ONCE
    await sink.stop()


# Several subscriptions


async def test_only_receivers_without_the_event_are_called_again(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """An event that one subscription took and another didn't goes to the other alone when it comes again."""
    await subscribe(subscriptions, receiver)
    failing = await subscribe(subscriptions, other)
    other.replies.append(Reply(503))
    assert await sink.send([make_event()]) == [Result(Outcome.RETRY, f"webhook {failing.id}: answered 503")]
    assert await sink.send([make_event()]) == [SENT]
    assert (len(receiver.posts), len(other.posts)) == (1, 2)


async def test_after_a_restart_all_are_called_again(
    sink: Webhooks, redis: Server, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """A process that doesn't know which subscriptions have an event sends it to all, with the same id."""
    await subscribe(subscriptions, receiver)
    await subscribe(subscriptions, other)
    other.replies.append(Reply(503))
    await sink.send([make_event()])
    another = Webhooks(redis, private=True, hold_s=WAIT_S)
    assert await another.send([make_event()]) == [SENT]
    assert receiver.event_ids == [make_event().event_id] * 2
    await another.stop()


async def test_the_memory_of_waiting_events_is_bounded(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of waiting events are remembered for so many events and no more; forgotten ones are sent again."""
    monkeypatch.setattr(delivery_queue, "MOST_REMEMBERED", 10)
    await subscribe(subscriptions, receiver, KINDS)
    await subscribe(subscriptions, other, KINDS)
    other.always = Reply(500)
    events = [one for number in range(15) for one in utterances(1, f"s{number}")]
    await sink.send(events)
    assert len(sink._queues._final) == len(sink._queues._failing_since) == 10
    await sink.send(events)
    assert 15 < len(receiver.posts) <= 30


async def test_a_refusal_waits_for_the_others(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """An event that one refused and another may take later is kept, then rejected, and names the refusing one."""
    refusing = await subscribe(subscriptions, receiver)
    await subscribe(subscriptions, other)
    receiver.replies.append(Reply(400))
    other.replies.append(Reply(503))
    [first] = await sink.send([make_event()])
    assert first.outcome is Outcome.RETRY
    assert f"{refusing.id}: answered 400" in first.reason
    assert await sink.send([make_event()]) == [Result(Outcome.REJECTED, f"webhook {refusing.id}: answered 400")]
    assert (len(receiver.posts), other.taken) == (1, [make_event().event_id])


async def test_events_of_a_session_keep_their_order(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """After an event that failed, a subscription gets none of the session's later ones until it took that one."""
    await subscribe(subscriptions, receiver, KINDS)
    events, others = utterances(4), utterances(2, "s2")
    receiver.replies += [Reply(), Reply(503)]
    assert outcomes(await sink.send(events)) == [Outcome.SENT, *[Outcome.RETRY] * 3]
    assert await sink.send([*events[1:], *others]) == [SENT] * 5
    for some in (events, others):
        ids = [one.event_id for one in some]
        assert [one for one in receiver.taken if one in ids] == ids


async def test_one_that_fails_holds_up_no_other(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """While one subscription fails another gets the session's events in order, each once."""
    await subscribe(subscriptions, receiver, KINDS)
    await subscribe(subscriptions, other, KINDS)
    other.always = Reply(500)
    events = utterances(5)
    for _ in range(3):
        assert outcomes(await sink.send(events)) == [Outcome.RETRY] * 5
    assert receiver.taken == [one.event_id for one in events]
    other.always = None


async def test_an_event_behind_a_late_one_is_late(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """An event that all have is retried as long as one before it in its session is, and is not sent again."""
    await subscribe(subscriptions, receiver, KINDS)
    await subscribe(subscriptions, other, ["TranscriptUtterance"])
    other.replies.append(Reply(500))
    events = [*utterances(1), make_event(2)]
    assert outcomes(await sink.send(events)) == [Outcome.RETRY] * 2
    assert await sink.send(events) == [SENT] * 2
    assert receiver.event_ids == [one.event_id for one in events]


async def test_an_utterance_is_given_up_when_others_wait(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver, clock: Clock
) -> None:
    """A subscription that fails for a minute loses sentences that others wait behind, but no end of a session."""
    await subscribe(subscriptions, receiver, KINDS)
    failing = await subscribe(subscriptions, other, KINDS)
    other.always = Reply(500)
    events = [*utterances(3), make_event(4)]
    assert outcomes(await sink.send(events)) == [Outcome.RETRY] * 4
    clock.now_s += HELD_UP_S + 1
    results = await sink.send(events)
    assert outcomes(results) == [*[Outcome.REJECTED] * 3, Outcome.RETRY]
    assert all(failing.id in result.reason for result in results)
    assert receiver.taken == [one.event_id for one in events]


async def test_an_utterance_waits_where_no_other_does(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, clock: Clock
) -> None:
    """A tenant's only subscription may fail for as long as the forwarder likes."""
    await subscribe(subscriptions, receiver, KINDS)
    receiver.always = Reply(500)
    for _ in range(3):
        assert outcomes(await sink.send(utterances(2))) == [Outcome.RETRY] * 2
        clock.now_s += HELD_UP_S + 1


# Failing receivers
