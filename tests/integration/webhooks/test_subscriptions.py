"""Where subscriptions are kept."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import msgspec
import pytest

from eventlog import keys
from eventlog.projection.webhook_subscriptions import MOST_SUBSCRIPTIONS, Subscription, Subscriptions, new_secret
from eventlog.redis.server import Server, connect
from projections.webhooks.subscription_cache import MOST_TENANTS, SubscriptionCache
from tests.integration.webhooks.conftest import PARTITIONS
from tests.support.clock import Clock
from tests.support.servers import Server as TestServer


@pytest.fixture
async def anywhere(server: TestServer) -> AsyncIterator[Server]:
    """A connection to an empty Redis, once single and once a cluster."""
    connected = await connect(server.url, partitions=PARTITIONS)
    yield connected
    await connected.close()


def made(number: int = 0) -> Subscription:
    """A subscription."""
    return Subscription(
        id=str(uuid.UUID(int=number)), url="https://example.com/", kinds=("TranscriptEnded",), description="",
        secret=new_secret(), created_ms=number,
    )  # fmt: skip


async def test_subscriptions_are_kept_per_tenant(anywhere: Server) -> None:
    """A stored subscription is found again, the oldest first, by its own tenant alone, until it is removed."""
    some = Subscriptions(anywhere)
    first, second = made(1), made(2)
    assert await some.add("acme", second)
    assert await some.add("acme", first)
    assert await some.add("acme", first)
    assert await some.read("acme") == [first, second]
    assert await some.read_many(["acme", "other", ""]) == {"acme": [first, second], "other": [], "": []}
    assert await some.find("acme", first.id) == first
    assert await some.find("other", first.id) is None
    assert not await some.remove("other", first.id)
    assert await some.remove("acme", first.id)
    assert not await some.remove("acme", first.id)
    assert await some.read("acme") == [second]


async def test_a_tenant_never_has_more_than_the_bound(anywhere: Server) -> None:
    """However many are added at the same time, a tenant has no more than it may, and others are not concerned."""
    some = Subscriptions(anywhere)
    added = await asyncio.gather(*(some.add("acme", made(number)) for number in range(2 * MOST_SUBSCRIPTIONS)))
    assert sum(added) == MOST_SUBSCRIPTIONS == len(await some.read("acme"))
    assert await some.add("other", made())
    await some.remove("acme", (await some.read("acme"))[0].id)
    assert await some.add("acme", made(999))


async def test_a_change_needs_the_version_that_was_read(anywhere: Server) -> None:
    """A subscription that was deleted or changed meanwhile isn't written over."""
    some = Subscriptions(anywhere)
    old = made()
    new = msgspec.structs.replace(old, disabled_ms=5, disabled_reason="gone")
    assert not await some.replace("acme", old, new)
    assert await some.read("acme") == []
    await some.add("acme", old)
    assert await some.replace("acme", old, new)
    assert not await some.replace("acme", old, old)
    assert await some.read("acme") == [new]


async def test_a_removed_one_leaves_nothing(anywhere: Server) -> None:
    """With a tenant's last subscription its key goes, the secret with it."""
    some = Subscriptions(anywhere)
    await some.add("acme", made())
    assert await anywhere.execute("EXISTS", keys.webhooks("acme")) == 1
    await some.remove("acme", made().id)
    assert await anywhere.execute("EXISTS", keys.webhooks("acme")) == 0


@pytest.mark.parametrize("value", ["", "{", "[]", "{}", b"\xff", '{"id": 7}'])
async def test_an_unreadable_subscription_keeps_no_other_back(redis: Server, value: str | bytes) -> None:
    """A value that isn't a subscription counts for none."""
    some = Subscriptions(redis)
    one = made()
    await some.add("acme", one)
    await redis.execute("HSET", keys.webhooks("acme"), "x", value)
    assert await some.read("acme") == [one]
    assert await some.find("acme", "x") is None


async def test_the_memory_of_subscriptions_is_bounded(redis: Server, clock: Clock) -> None:
    """However many tenants have events, only some are cached, and each gets its own subscriptions."""
    some = Subscriptions(redis)
    one = made()
    await some.add("acme", one)
    cache = SubscriptionCache(some, clock)
    assert await cache.read(["acme", "acme", "other"]) == {"acme": (one,), "other": ()}
    await cache.read([str(number) for number in range(MOST_TENANTS + 5)])
    assert len(cache._cached) == MOST_TENANTS
    assert await cache.read(["acme"]) == {"acme": (one,)}
