"""The sink over time: open circuits, changes of subscriptions, the loss of Redis, its end."""

import asyncio
import logging

import pytest

from eventlog.projection.webhook_subscriptions import KINDS, Subscriptions
from eventlog.redis.server import Server, connect
from projections.forwarding.sink import SENT, Outcome
from projections.webhooks import Webhooks
from projections.webhooks.circuit_breaker import FAILURE_THRESHOLD, LONGEST_OPEN_S
from projections.webhooks.deliverer import MOST_AT_ONCE
from projections.webhooks.subscription_cache import FRESH_S
from tests.integration.webhooks.conftest import PARTITIONS
from tests.integration.webhooks.receivers import (
    SAID,
    TENANT,
    Receiver,
    Reply,
    make_event,
    outcomes,
    subscribe,
    utterances,
)
from tests.support.clock import Clock
from tests.support.servers import standalone
from tests.support.waiting import eventually_async

WAIT_S = 30.0


async def test_a_failing_receiver_opens_its_circuit(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, clock: Clock
) -> None:
    """After some failures nothing is sent for a while, then one request tries, and success lets all follow."""
    await subscribe(subscriptions, receiver)
    events = [make_event(session=f"s{number}") for number in range(3 * MOST_AT_ONCE)]
    receiver.always = Reply(503)
    assert set(outcomes(await sink.send(events))) == {Outcome.RETRY}
    requests = len(receiver.posts)
    assert FAILURE_THRESHOLD <= requests <= FAILURE_THRESHOLD + MOST_AT_ONCE
    assert set(outcomes(await sink.send(events))) == {Outcome.RETRY}
    assert len(receiver.posts) == requests
    clock.now_s += LONGEST_OPEN_S
    await sink.send(events)
    assert len(receiver.posts) == requests + 1
    receiver.always = None
    clock.now_s += LONGEST_OPEN_S
    assert Outcome.SENT in outcomes(await sink.send(events))
    assert set(outcomes(await sink.send(events))) == {Outcome.SENT}


@pytest.mark.parametrize(("text", "wait_s"), [("120", 120), ("86400", 300), ("999999999999999999999", 300)])
async def test_retry_after_is_heeded(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, clock: Clock, *, text: str, wait_s: float
) -> None:
    """A receiver that says for how long is left alone for so long, within a bound."""
    await subscribe(subscriptions, receiver)
    receiver.replies.append(Reply(429, {"retry-after": text}))
    assert outcomes(await sink.send([make_event()])) == [Outcome.RETRY]
    clock.now_s += wait_s - 1
    assert outcomes(await sink.send([make_event(), make_event(session="s2")])) == [Outcome.RETRY] * 2
    assert len(receiver.posts) == 1
    clock.now_s += 2
    assert await sink.send([make_event()]) == [SENT]


# Subscriptions that change


async def test_one_that_is_gone_is_disabled(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver
) -> None:
    """A receiver that answers 410 gets nothing more, its subscription says why, and others continue."""
    gone = await subscribe(subscriptions, receiver, KINDS)
    receiver.always = Reply(410)
    assert outcomes(await sink.send(utterances(3))) == [Outcome.SKIPPED] * 3
    await subscribe(subscriptions, other, KINDS)
    assert await sink.send(utterances(3, "s2")) == [SENT] * 3
    assert len(receiver.posts) == 1
    found = await subscriptions.find(TENANT, gone.id)
    assert found is not None
    assert found.disabled_ms > 0
    assert found.disabled_reason == "its receiver answered 410"


async def test_a_deleted_one_is_not_brought_back(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """A subscription that was deleted while a 410 was under way stays deleted."""
    made = await subscribe(subscriptions, receiver)
    held = asyncio.Event()
    receiver.replies.append(Reply(410, held=held))
    sending = asyncio.create_task(sink.send([make_event()]))
    await eventually_async(lambda: receiver.posts, WAIT_S)
    assert await subscriptions.remove(TENANT, made.id)
    held.set()
    assert outcomes(await sending) == [Outcome.SKIPPED]
    assert await subscriptions.read(TENANT) == []


async def test_changes_are_noticed_in_time(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, other: Receiver, clock: Clock
) -> None:
    """A new subscription gets events, and a deleted one none, some seconds later at most."""
    old = await subscribe(subscriptions, receiver)
    await sink.send([make_event(1)])
    await subscriptions.remove(TENANT, old.id)
    await subscribe(subscriptions, other)
    clock.now_s += FRESH_S
    await sink.send([make_event(2)])
    assert (len(receiver.posts), len(other.posts)) == (1, 1)


async def test_without_redis_events_wait(receiver: Receiver) -> None:
    """While the subscriptions can't be read those that aren't known have their events kept, known ones get them."""
    with standalone() as deployment:
        redis = await connect(deployment.url, partitions=PARTITIONS, timeout_s=1)
        await subscribe(Subscriptions(redis), receiver)
        sink = Webhooks(redis, private=True, hold_s=WAIT_S)
        assert await sink.send([make_event(1)]) == [SENT]
        deployment.nodes[0].stop()
        known, unknown = make_event(2), make_event(3, tenant_id="elsewhere")
        assert outcomes(await sink.send([known, unknown])) == [Outcome.SENT, Outcome.RETRY]
        await sink.stop()
        await redis.close()


# The texts that logs may hold


async def test_no_log_holds_secrets_or_text(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs name event, subscription, kind and length, never the text, the secret or the address (BATCH-9)."""
    caplog.set_level(logging.DEBUG, logger="projections")
    made = await subscribe(subscriptions, receiver)
    receiver.replies += [Reply(503), Reply(400, body=SAID.encode()), Reply(410)]
    for number in range(1, 5):
        await sink.send([make_event(number)])
    logged = " ".join(str(record.__dict__) for record in caplog.records)
    assert made.id in logged
    assert make_event(2).event_id in logged
    assert not [one for one in (SAID, receiver.secret, receiver.url, receiver.secret[6:]) if one in logged + repr(made)]


async def test_stopping_is_harmless(redis: Server) -> None:
    """A sink may be stopped before it began, and twice."""
    made = Webhooks(redis)
    await made.stop()
    await made.stop()
    started = Webhooks(redis)
    await started.start()
    await started.stop()


async def test_stopping_ends_requests_under_way(
    redis: Server, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """A sink that is stopped waits for no receiver."""
    await subscribe(subscriptions, receiver)
    receiver.always = Reply(held=asyncio.Event())
    sink = Webhooks(redis, private=True, timeout_s=WAIT_S * 10, hold_s=0.05)
    await sink.send([make_event()])
    await eventually_async(lambda: receiver.posts, WAIT_S)
    async with asyncio.timeout(WAIT_S):
        await sink.stop()


async def test_connections_are_used_again(
    sink: Webhooks, subscriptions: Subscriptions, receiver: Receiver
) -> None:
    """Events one after the other share a connection, unless an answer is too long to be read."""
    await subscribe(subscriptions, receiver, KINDS)
    receiver.replies += [Reply(200, body=b"ok"), Reply(200, body=b"x" * 4000), Reply(200, body=b"x" * 1_000_000)]
    assert await sink.send(utterances(5)) == [SENT] * 5
    assert receiver.connections == 2
