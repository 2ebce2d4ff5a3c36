"""Places and requests of one tenant, and pages of other sites."""

import asyncio
import contextlib

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.auth.access import Scope
from edge.auth.limits import RequestLimit
from edge.errors import ApiError
from edge.session.reservations import Reservation, Reservations
from eventlog.keys import request_count, reservations, tenant_reservations
from eventlog.log import Code
from eventlog.redis.server import connect
from tests.integration.edge.replicas import PARTITIONS, Replica, replica
from tests.integration.edge.test_limits import named, places
from tests.integration.edge.test_resume import resuming
from tests.integration.edge.tokens import NOW_S, Clock, bearer, guarded, token
from tests.support.servers import Server
from tests.support.waiting import eventually_async

LIMIT, TENANT_LIMIT = 5, 3
TURNS = 150

# Places per tenant


async def test_a_tenant_has_a_limit_of_its_own(server: Server) -> None:
    """A tenant never holds more than its limit, another takes the rest, and a refusal takes nothing (SESS-6)."""
    async with places(server.url, limit=LIMIT, tenant_limit=TENANT_LIMIT) as place:
        assert await place.take(named("abcd")) == [Code.OK] * 3 + [Code.TENANT_FULL]
        assert await place.take(named("efg", "other")) == [Code.OK] * 2 + [Code.FULL]
        assert await place.take(named("abcd")) == [Code.EXISTS] * 3 + [Code.FULL]
        await place.release(named("ab"))
        mixed = [*named("g", "other"), *named("d"), *named("h", "other")]
        assert await place.take(mixed) == [Code.OK, Code.OK, Code.FULL]
        await place.release(named("cd") + named("efg", "other"))
        assert await place.held() == 0
        left = (reservations(), tenant_reservations("acme"), tenant_reservations("other"))
        assert [await place._server.execute("EXISTS", key) for key in left] == [0, 0, 0]


async def test_a_tenants_reservations_expire(redis_url: str) -> None:
    """What a crashed edge held of a tenant's places frees itself by Redis's clock, and the key expires (SESS-6)."""
    async with places(redis_url, limit=LIMIT, tenant_limit=1) as place:
        assert await place.take(named("a")) == [Code.OK]
        key = tenant_reservations("acme")
        assert 0 < await place._server.execute("PTTL", key) <= 60_000
        expired_ms = await place._server.time_ms() - 1
        await place._server.execute_many([("ZADD", one, expired_ms, "a") for one in (reservations(), key)])
        assert await place.take(named("b")) == [Code.OK]


actions = st.lists(
    st.tuples(st.sampled_from(["take", "release", "expire"]), st.text("abcdefgh", min_size=1, max_size=4)), max_size=20
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=actions)
async def test_reservations_match_a_simple_model(redis_url: str, actions: list[tuple[str, str]]) -> None:
    """Any sequence of taking, freeing and expiring is answered as a set per tenant would have it (SESS-6)."""
    async with places(redis_url, limit=LIMIT, tenant_limit=TENANT_LIMIT) as place:
        await place._server.execute("FLUSHALL")
        held: set[Reservation] = set()
        for action, names in actions:
            some = [Reservation(name, "xy"[name > "e"]) for name in names]
            if action == "take":
                assert await place.take(some) == [_model(held, one) for one in some]
            elif action == "release":
                await place.release(some)
                held -= set(some)
            else:
                await _expire(place, [one for one in some if one in held])
                held -= set(some)
        assert await place.held() == len(held)


def _model(held: set[Reservation], reservation: Reservation) -> Code:
    if reservation in held:
        return Code.EXISTS
    if len(held) >= LIMIT:
        return Code.FULL
    if sum(other.tenant_id == reservation.tenant_id for other in held) >= TENANT_LIMIT:
        return Code.TENANT_FULL
    held.add(reservation)
    return Code.OK


async def _expire(place: Reservations, some: list[Reservation]) -> None:
    for one in some:
        for key in (reservations(), tenant_reservations(one.tenant_id)):
            await place._server.execute("ZADD", key, 1, one.session_id)


async def test_replicas_racing_never_exceed_a_limit(redis_url: str) -> None:
    """While several replicas take and free places as fast as they can, neither limit is ever exceeded (SESS-6)."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(places(redis_url, limit=LIMIT, tenant_limit=TENANT_LIMIT))
            for _ in range(4)
        ]
        watcher = await connect(redis_url, partitions=PARTITIONS)
        stack.push_async_callback(watcher.close)
        racing = [asyncio.create_task(_race(one, number)) for number, one in enumerate(replicas)]
        counted = (reservations(), tenant_reservations("x"), tenant_reservations("y"))
        most = [0, 0, 0]
        while not all(task.done() for task in racing):
            found = await watcher.execute_many([("ZCARD", key) for key in counted])
            most = [max(pair) for pair in zip(most, found, strict=True)]
        taken = sum(await asyncio.gather(*racing))
        assert all(one <= bound for one, bound in zip(most, (LIMIT, TENANT_LIMIT, TENANT_LIMIT), strict=True))
        assert LIMIT < taken < 4 * 2 * TURNS  # some got in, some were refused
        assert await watcher.execute_many([("ZCARD", key) for key in counted]) == [0, 0, 0]


async def _race(place: Reservations, number: int) -> int:
    taken = 0
    for turn in range(TURNS):
        one = Reservation(f"{number}-{turn}", "xy"[turn % 2])
        two = Reservation(f"{number}-{turn}-more", "xy"[number % 2])
        codes = await place.take([one, two])
        got = [each for each, code in zip((one, two), codes, strict=True) if code is Code.OK]
        taken += len(got)
        await place.release(got)
    return taken


async def test_a_tenants_limit_holds_over_replicas(redis_url: str) -> None:
    """Of a tenant's clients at two replicas exactly its limit get in; the others receive the limit's name (SESS-6)."""
    async with contextlib.AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(guarded(redis_url, max_sessions_per_tenant=2, max_sessions=9))
            for _ in range(2)
        ]
        tenants = ["acme", "other"] * 4
        clients = await asyncio.gather(*(
            stack.enter_async_context(both[number // 4].connect(additional_headers=bearer(token(tenant_id=tenant))))
            for number, tenant in enumerate(tenants)
        ))
        messages = await asyncio.gather(*(client.next() for client in clients))
        got_in = [tenant for tenant, one in zip(tenants, messages, strict=True) if one["type"] == "session_start"]
        assert sorted(got_in) == ["acme", "acme", "other", "other"]
        refused = [one for one in messages if one["type"] == "error"]
        assert {one["code"] for one in refused} == {"session_limit_exceeded"}
        assert all("all 2 sessions of your tenant" in one["message"] for one in refused)


async def test_an_end_releases_both_reservations(redis_url: str) -> None:
    """An end makes room in its tenant's limit and in the global one, and a resume takes no second place (SESS-6)."""
    async with guarded(redis_url, max_sessions_per_tenant=1) as edge:
        async with edge.connect(additional_headers=bearer(token())) as client:
            start = await client.next()
        async with edge.connect(resuming(start), additional_headers=bearer(token())) as client:
            assert (await client.next())["type"] == "session_start"
            await edge.core._renew_reservations()
            await client.send("stop")
            await client.until("session_end")
        held = [await edge.core.server.execute("ZCARD", key) for key in (reservations(), tenant_reservations("acme"))]
        assert held == [0, 0]


# Requests per minute


async def post(edge: Replica, text: str) -> httpx2.Response:
    """A request that takes scope `ingest`."""
    path = next(one.path for one in edge.operations if one.scope is Scope.INGEST and one.method == "POST")
    async with httpx2.AsyncClient() as http:
        path = path.replace("{session_id}", "00000000-0000-4000-8000-000000000000")
        return await http.post(edge.http + path, headers=bearer(text))


async def test_requests_of_a_tenant_are_limited(redis_url: str) -> None:
    """Past its requests a tenant gets 429 with Retry-After, at any replica, till the next minute (SAFE-4)."""
    clock = Clock(NOW_S - NOW_S % 60 + 20)
    async with guarded(redis_url, clock, requests_per_minute=3) as edge, guarded(
        redis_url, clock, requests_per_minute=3
    ) as another:
        for number in range(3):
            assert (await post((edge, another)[number % 2], token())).status_code != 429
        refused = await post(edge, token())
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert refused.headers["retry-after"] == "40"
        async with another.connect(additional_headers=bearer(token())) as client:
            assert (await client.next())["code"] == "too_many_requests"
            assert await client.closed() == 1013
        assert (await post(edge, token(tenant_id="other"))).status_code != 429
        async with httpx2.AsyncClient() as http:
            assert (await http.get(edge.http + "/v1/sessions", headers=bearer(token()))).status_code == 200
        clock.now_s += 40
        assert (await post(edge, token())).status_code != 429


async def test_without_authentication_requests_are_unlimited(redis_url: str) -> None:
    """Without tenants, requests are not counted."""
    async with replica(redis_url, requests_per_minute=1) as edge:
        assert [(await post(edge, "none")).status_code for _ in range(3)].count(429) == 0


async def test_a_count_expires(redis_url: str) -> None:
    """The count of a minute is gone soon after it."""
    server = await connect(redis_url, partitions=PARTITIONS)
    await RequestLimit(server, per_minute=1, now=Clock()).count("acme")
    key = request_count("acme", int(NOW_S // 60))
    assert await server.execute("GET", key) == b"1"
    assert 0 < await server.execute("TTL", key) <= 120
    await server.close()


async def test_requests_pass_while_redis_cannot_count(standalone: Server) -> None:
    """While Redis doesn't answer, or is full, requests pass; with it back the limit holds again."""
    server = await connect(standalone.url, partitions=PARTITIONS, timeout_s=0.2)
    limit = RequestLimit(server, per_minute=1, now=Clock())
    await limit.count("acme")
    standalone.nodes[0].client.config_set("maxmemory", 1)
    await limit.count("acme")
    standalone.nodes[0].client.config_set("maxmemory", 0)
    standalone.pause_ms(2000)
    await limit.count("acme")
    with pytest.raises(ApiError):
        await eventually_async(lambda: limit.count("acme"))
    await RequestLimit(server, per_minute=0).count("acme")
    await server.close()


# Origins


@pytest.mark.parametrize(("origin", "allowed", "code"), [
    (None, (), "session_start"),
    ("http://{host}", (), "session_start"),
    ("https://{host}", (), "session_start"),
    ("http://{HOST}", (), "session_start"),
    ("https://evil.example", (), "invalid_origin"),
    ("http://{host}.evil.example", (), "invalid_origin"),
    ("http://evil.example/{host}", (), "invalid_origin"),
    ("http://localhost:1", (), "invalid_origin"),
    ("null", (), "invalid_origin"),
    ("https://[", (), "invalid_origin"),
    ("https://app.example", ("https://app.example",), "session_start"),
    ("https://app.example:8443", ("https://app.example",), "invalid_origin"),
    ("http://app.example", ("https://app.example",), "invalid_origin"),
    ("https://evil.example", ("*",), "session_start"),
])  # fmt: skip
async def test_pages_of_other_sites_are_refused(
    redis_url: str, origin: str | None, allowed: tuple[str, ...], code: str
) -> None:
    """A handshake from a page that is neither the host's own nor of a listed origin is refused (SAFE-4)."""
    async with replica(redis_url, allowed_origins=allowed) as edge:
        host = f"localhost:{edge.port}"
        given = {} if origin is None else {"origin": origin.format(host=host, HOST=host.upper())}
        client = edge.connect(additional_headers=given)
        client.url = client.url.replace("127.0.0.1", "localhost")
        async with client:
            message = await client.next()
            assert message.get("code", message["type"]) == code


async def test_pages_of_other_sites_read_nothing_over_http(edge: Replica) -> None:
    """Requests of a page that isn't allowed are refused, in an answer that it can't read (SAFE-4)."""
    async with httpx2.AsyncClient(base_url=edge.http, headers={"origin": "https://evil.example"}) as http:
        refused = await http.get("/v1/sessions")
        assert (refused.status_code, refused.json()["code"]) == (403, "invalid_origin")
        assert "access-control-allow-origin" not in refused.headers
        assert (await http.options("/v1/sessions", headers=PREFLIGHT)).status_code == 405


PREFLIGHT = {"access-control-request-method": "DELETE", "access-control-request-headers": "authorization"}


async def test_allowed_origins_are_served_over_http(redis_url: str) -> None:
    """A page of a listed origin can read its answers and errors after a preflight, and no other page can (SAFE-4)."""
    async with replica(redis_url, allowed_origins=("https://app.example",)) as edge:
        async with httpx2.AsyncClient(base_url=edge.http, headers={"origin": "https://app.example"}) as http:
            preflight = await http.options("/v1/sessions", headers=PREFLIGHT)
            assert preflight.status_code == 200
            assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
            for path, status in (("/v1/sessions", 200), ("/v1/sessions/x", 404)):
                answer = await http.get(path)
                assert answer.status_code == status
                assert answer.headers["access-control-allow-origin"] == "https://app.example"
                assert "access-control-allow-credentials" not in answer.headers
        async with httpx2.AsyncClient(base_url=edge.http, headers={"origin": "https://evil.example"}) as http:
            assert "access-control-allow-origin" not in (await http.get("/v1/sessions")).headers
