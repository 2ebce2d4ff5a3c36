"""The metrics of an edge, and the callers that may read them."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from edge import errors
from edge.metrics import EdgeMetrics
from eventlog.telemetry.metering import Meter, Reading
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import FRAME_SAMPLES, Replica, replica
from tests.integration.edge.tokens import authenticator, bearer, token
from tests.support.metric_samples import Samples, names, of, samples
from tests.support.speech import client_of
from tests.support.waiting import eventually_async

FRAMES = 50


async def scraped(edge: Replica, **headers: str) -> Samples:
    """The metrics of an edge now."""
    async with client_of(edge) as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return samples(answer.text)


async def test_a_session_shows_in_the_metrics(redis_url: str) -> None:
    """A session's audio, acks and end are counted, and flushes are timed, but nothing once per frame (OPS-3)."""
    async with behind(redis_url), replica(redis_url) as edge:
        async with edge.connect() as client:
            await client.speak(FRAMES)
            await client.acked(FRAMES * FRAME_SAMPLES)
            during = await scraped(edge)
            await client.send("stop")
            await client.until("session_end")
        await eventually_async(lambda: not edge.core.connections)
        after = await scraped(edge)
    assert of(during, "stenolog_edge_connections", state="active") == 1
    assert of(during, "stenolog_edge_sessions_opened_total", type="created") == 1
    assert of(during, "stenolog_edge_appended_bytes_total") == FRAMES * FRAME_SAMPLES * 2
    assert of(during, "stenolog_edge_unacked_bytes") == 0
    flushes = of(after, "stenolog_edge_append_duration_seconds_count")
    assert 0 < flushes < FRAMES
    assert of(after, "stenolog_redis_call_duration_seconds_count", call="append_audio") <= flushes + 1
    assert of(after, "stenolog_edge_acks_total") >= len(client.of("ack")) > 0
    assert of(after, "stenolog_edge_sessions_ended_total", reason="stop") == 1
    assert of(after, "stenolog_edge_connections", state="active") == 0


async def test_errors_are_counted_by_code(edge: Replica) -> None:
    """Each error code has its counter from the start, which rises with every such error, by WebSocket or HTTP."""
    before = await scraped(edge)
    assert {code for name, labels in before if name == "stenolog_edge_errors_total" for _, code in labels} == {
        one.code for one in errors.TABLE
    }
    async with client_of(edge) as client:
        await client.get("/nowhere")
        await client.get("/v1/sessions/none")
    async with edge.connect("sample_rate=1") as refused:
        await refused.closed()
    async with edge.connect() as slip:
        await slip.next()
        await slip.send_text("{")
        await slip.until("error")
    after = await scraped(edge)
    for code in ("not_found", "unknown_session", "invalid_sample_rate", "invalid_json"):
        assert of(after, "stenolog_edge_errors_total", code=code) == 1, code


async def test_requests_are_timed_by_operation_and_status(edge: Replica) -> None:
    """Every HTTP request is timed under its operation and status; addresses that are none share one name (OPS-3)."""
    async with client_of(edge) as client:
        await client.get("/v1/health")
        await client.head("/v1/health")
        await client.get("/v1/sessions", params={"limit": "0"})
        await client.get("/a/b")
        await client.get("/a/c")
    found = await scraped(edge)
    count = "stenolog_edge_http_request_duration_seconds_count"
    assert of(found, count, operation="health", status="200") == 2
    assert of(found, count, operation="list_sessions", status="400") == 1
    assert of(found, count, operation="unknown", status="404") == 2


async def test_a_defect_is_counted_as_one(edge: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails by a defect is answered with 500 and counted under it."""
    def broken(*_: object) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr(edge.core.server.meter, "exposition", broken)
    async with client_of(edge) as client:
        assert (await client.get("/metrics")).status_code == 500
    monkeypatch.undo()
    found = await scraped(edge)
    assert of(found, "stenolog_edge_http_request_duration_seconds_count", operation="metrics", status="500") == 1
    assert of(found, "stenolog_edge_errors_total", code="internal_error") == 1


async def test_redis_is_seen_from_the_edge(edge: Replica) -> None:
    """Calls of Redis are timed by script or command, and connections made to it are counted (OPS-3)."""
    async with edge.connect() as client:
        await client.next()
    found = await scraped(edge)
    assert of(found, "stenolog_redis_call_duration_seconds_count", call="open_session") == 1
    assert of(found, "stenolog_redis_connections_opened_total") >= 2  # one for calls, one for wake-ups
    assert not [name for name in names(found) if name.endswith("_created")]


async def test_a_scraper_gets_the_format_that_it_asks_for(edge: Replica) -> None:
    """The metrics come as text, or as OpenMetrics where that is asked for."""
    async with client_of(edge) as client:
        plain = await client.get("/metrics")
        asking = {"accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
        modern = await client.get("/metrics", headers=asking)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    families = {one.name for one in openmetrics_families(modern.text)}  # type: ignore[no-untyped-call]
    assert families >= {"stenolog_edge_acks", "stenolog_redis_call_duration_seconds"}


@pytest.mark.parametrize(("given", "status"), [
    (None, 401), ({"scope": "read"}, 403), ({"scope": "admin"}, 403), ({"tenant_id": "*", "scope": "admin"}, 200),
])  # fmt: skip
async def test_metrics_are_the_operators(redis_url: str, given: dict[str, str] | None, status: int) -> None:
    """With authentication on, only an operator's token opens the metrics: they cover all tenants (SAFE-4)."""
    headers = {} if given is None else bearer(token(**given))
    async with replica(redis_url, authenticator=authenticator()) as edge, client_of(edge) as client:
        assert (await client.get("/metrics", headers=headers)).status_code == status


def test_readings_are_taken_at_the_scrape() -> None:
    """Readings are taken at the scrape, with their labels, and counters end in total."""
    meter = Meter()
    EdgeMetrics(meter)
    values = {"lists": 3.0}
    meter.add_reader(lambda: [Reading("counter", "stenolog_x", "X.", label="projection", values=values)])
    assert of(samples(meter.exposition("")[0].decode()), "stenolog_x_total", projection="lists") == 3
    values["lists"] = 4.0
    assert of(samples(meter.exposition("")[0].decode()), "stenolog_x_total", projection="lists") == 4
