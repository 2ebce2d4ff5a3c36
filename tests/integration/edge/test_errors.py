"""Everything a client can do wrong: each has its own code and costs no session."""

import uuid

import pytest

from edge import errors
from edge.errors import TABLE, ErrorCode, table_markdown
from edge.server.server import OVERSIZE_FACTOR
from edge.websocket.connection import MAX_ERRORS
from eventlog.positions import START
from tests.integration.edge.replicas import FRAME_SAMPLES, Client, Replica, replica
from tests.integration.edge.test_resume import resuming
from tests.support.speech import client_of
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

DOCS = ROOT / "docs" / "websocket.md"
UNKNOWN_ID = str(uuid.UUID(int=7, version=4))


@pytest.mark.parametrize(("query", "code"), [
    ("sample_rate=11025", "invalid_sample_rate"),
    ("sample_rate=16000.0", "invalid_sample_rate"),
    ("sample_rate=-16000", "invalid_sample_rate"),
    ("sample_rate=99999999999999999999999999", "invalid_sample_rate"),
    ("sample_rate=%D9%A1%D9%A6", "invalid_sample_rate"),
    ("encoding=mulaw", "invalid_encoding"),
    ("channels=3", "invalid_channels"),
    ("channels=two", "invalid_channels"),
    ("channels=mix", "invalid_channels"),
    ("channels=auto", "invalid_channels"),
    ("track=-1", "invalid_track"),
    ("track=100", "invalid_track"),
    ("language=en%0A", "invalid_language"),
    ("language=" + "x" * 5000, "invalid_language"),
    ("hangover_ms=99", "invalid_hangover"),
    ("next_utterance=-1", "invalid_next_utterance"),
    ("session_id=../../etc&resume_token=x", "invalid_session_id"),
    ("resume_token=x", "invalid_session_id"),
    (f"session_id={UNKNOWN_ID}", "invalid_resume_token"),
    (f"session_id={UNKNOWN_ID}&resume_token=x", "unknown_session"),
])  # fmt: skip
async def test_a_bad_query_is_refused(edge: Replica, query: str, code: str) -> None:
    """A query string that can't be taken gets its own fatal error and the table's close code, and opens nothing."""
    async with edge.connect(query) as client:
        error = await client.next()
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, True)
        assert await client.closed() == next(row.close for row in TABLE if row.code == code)
    assert await edge.core.reservations.held() == 0


@pytest.mark.parametrize(("text", "code"), [
    ("", "invalid_json"),
    ("stop", "invalid_json"),
    ("[]", "invalid_json"),
    ("{}", "invalid_json"),
    ('{"type":1}', "invalid_json"),
    ('{"type":"stop"', "invalid_json"),
    ("[" * 4000, "invalid_json"),
    ('{"type":"stop"' + " " * 40_000 + "}", "invalid_json"),
    ('{"type":"STOP"}', "unknown_type"),
    ('{"type":"ended"}', "unknown_type"),
    ('{"type":"\\u0000"}', "unknown_type"),
    ('{"type":"start","sample_rate":8000}', "already_started"),
])  # fmt: skip
async def test_a_bad_text_frame_changes_nothing(edge: Replica, text: str, code: str) -> None:
    """A text frame that means nothing gets its own error, and the session continues."""
    async with edge.connect() as client:
        await client.send_text(text)
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == (code, False)
        await assert_continues(client)


async def assert_continues(client: Client, offset: int = FRAME_SAMPLES) -> None:
    """Sends a frame and sees it acked."""
    await client.speak(1)
    await client.acked(offset)


async def test_a_frame_over_the_bound_is_not_taken(redis_url: str) -> None:
    """A frame over the bound is refused whole, and the session continues from where it was."""
    async with replica(redis_url, max_frame_bytes=4_000) as edge, edge.connect() as client:
        await assert_continues(client)
        await client.send(bytes(4_001))
        assert (await client.until("error"))["code"] == "frame_too_large"
        await assert_continues(client, 2 * FRAME_SAMPLES)


async def test_a_frame_far_over_the_bound_costs_no_session(redis_url: str) -> None:
    """A message that isn't even read closes the connection with 1009, and the session can be resumed."""
    async with replica(redis_url, max_frame_bytes=4_000) as edge:
        async with edge.connect() as client:
            start = await client.next()
            await assert_continues(client)
            await client.send(bytes(4_000 * OVERSIZE_FACTOR + 1))
            assert await client.closed() == 1009
        async with edge.connect(resuming(start)) as client:
            assert (await client.next())["offset"] == FRAME_SAMPLES


async def test_text_that_is_no_text_costs_no_session(edge: Replica) -> None:
    """A text frame that isn't UTF-8 closes the connection with 1007, and the session can be resumed."""
    async with edge.connect() as client:
        start = await client.next()
        await assert_continues(client)
        await client.socket.send(b"\xff\xfe", text=True)
        assert await client.closed() == 1007
    async with edge.connect(resuming(start)) as client:
        assert (await client.next())["offset"] == FRAME_SAMPLES


async def test_an_incomplete_sample_at_the_end_is_reported(edge: Replica) -> None:
    """An incomplete sample at the end is reported and dropped; the rest is kept."""
    async with edge.connect() as client:
        await client.send(bytes(3_201))
        await client.send("stop")
        assert (await client.until("error"))["code"] == "misaligned_audio"
        assert (await client.until("session_end"))["audio_seconds"] == 0.1


@pytest.mark.parametrize("late", [bytes(3_200), "finalize", "keepalive", "stop"])
async def test_a_frame_after_stop_is_an_error(edge: Replica, late: bytes | str) -> None:
    """Whatever comes after a stop is an error of its own and not fatal (SESS-3)."""
    async with edge.connect() as client:
        await client.send("stop")
        await client.send(late)
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("session_closing", False)
        await client.until("session_end")
        assert await client.closed() == 1000


async def test_endless_errors_end_the_connection(edge: Replica) -> None:
    """A client that sends nothing but nonsense is closed after a bound, and can resume."""
    async with edge.connect() as client:
        start = await client.next()
        for _ in range(MAX_ERRORS + 1):
            await client.send_text("nonsense")
        assert (await client.until("error", code="too_many_errors"))["fatal"]
        assert await client.closed() == 1008
    async with edge.connect(resuming(start)) as client:
        assert (await client.next())["type"] == "session_start"


async def test_a_wrong_token_leaves_the_session_alone(edge: Replica) -> None:
    """A resume with another token is refused, and the living connection notices nothing (SAFE-4)."""
    async with edge.connect() as client:
        start = await client.next()
        async with edge.connect(resuming({**start, "resume_token": "x" * 32})) as thief:
            assert (await thief.next())["code"] == "invalid_resume_token"
        await assert_continues(client)
        assert await edge.core.reservations.held() == 1


async def test_an_ended_session_is_not_resumed(edge: Replica) -> None:
    """A resume after the end gets `session_ended`."""
    async with edge.connect() as client:
        start = await client.next()
        await client.send("stop")
        await client.closed()
    async with edge.connect(resuming(start)) as client:
        assert (await client.next())["code"] == "session_ended"


async def test_other_settings_are_not_resumed(edge: Replica) -> None:
    """A resume that asks for another sample rate gets `settings_mismatch`; the session's own is taken."""
    async with edge.connect() as client:
        start = await client.next()
    async with edge.connect(resuming(start, "&sample_rate=8000")) as client:
        assert (await client.next())["code"] == "settings_mismatch"
    async with edge.connect(resuming(start, "&sample_rate=16000&channels=1")) as client:
        assert (await client.next())["type"] == "session_start"


async def test_a_client_that_does_not_read_is_dropped(redis_url: str) -> None:
    """A client that lets messages pile up is closed after a bound, and delays no other client (SESS-10)."""
    async with replica(redis_url, max_outbox_messages=8) as edge, edge.connect() as slow, edge.connect() as other:
        await slow.next()
        await other.next()
        [connection] = [one for one in edge.core.connections if one.session.token == slow.received[0]["resume_token"]]
        slow.socket.transport.pause_reading()
        body = '{"type":"final","text":"' + "x" * 500_000 + '"}'
        await eventually_async(lambda: _flooded(connection, body), 30)
        await assert_continues(other)
        slow.cut()


def _flooded(connection: object, body: str) -> bool:
    connection.on_event(START, body, last=False)  # type: ignore[attr-defined]
    return str(connection.state) == "closed"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "path", "error"), [
    ("GET", "/nowhere", errors.NOT_FOUND),
    ("PUT", "/v1/health", errors.METHOD_NOT_ALLOWED),
    ("GET", f"/v1/sessions/{UNKNOWN_ID}", errors.UNKNOWN_SESSION),
    ("GET", "/v1/sessions?limit=x", errors.INVALID_QUERY),
])  # fmt: skip
async def test_an_http_error_is_a_problem_detail(edge: Replica, method: str, path: str, error: ErrorCode) -> None:
    """An HTTP error has the media type and the members of RFC 9457; type and title depend on the code alone."""
    async with client_of(edge) as client:
        answer = await client.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.pop("detail")
    assert body == {
        "type": f"urn:stenolog:error:{error.code}", "title": error.title, "status": answer.status_code,
        "code": error.code,
    }  # fmt: skip
    assert answer.status_code == error.status


def test_the_table_in_the_docs_is_current() -> None:
    """The documented error table is the one in the code."""
    assert table_markdown() in DOCS.read_text(encoding="utf-8")


def test_codes_are_unique_and_closed_properly() -> None:
    """No two errors share a code, and each fatal one closes with a code that RFC 6455 allows a server."""
    assert len({row.code for row in TABLE}) == len(TABLE)
    assert {row.close for row in TABLE if row.fatal} <= {1008, 1011, 1012, 1013}
    assert errors.LOG_UNAVAILABLE.close == 1013
