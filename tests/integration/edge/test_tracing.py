"""Trace context, from the request into the events."""

import pytest

from eventlog.codec import decode_fact
from eventlog.events import SessionOpened
from eventlog.positions import START
from tests.integration.edge.replicas import Replica
from tests.support.speech import client_of, started

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def carried(edge: Replica, session_id: str) -> set[str]:
    """The trace contexts in a session's start event and in its first fact."""
    keys = edge.core.server.keys.of(session_id)
    there = await edge.log.read_position(keys)
    assert there is not None
    [(_, data)] = await edge.log.facts(keys.run(), START)
    fact = decode_fact(data)
    assert isinstance(fact, SessionOpened)
    return {there.start.traceparent, fact.traceparent}


@pytest.mark.parametrize(("header", "kept"), [(TRACEPARENT, TRACEPARENT), (TRACEPARENT[:-1], ""), (None, "")])
async def test_a_sockets_trace_goes_into_the_events(edge: Replica, header: str | None, kept: str) -> None:
    """The handshake's trace context, if it is well formed, stands in the start event and the first fact (OPS-3)."""
    headers = {} if header is None else {"traceparent": header}
    async with edge.connect(additional_headers=headers) as client:
        assert await carried(edge, (await client.next())["session_id"]) == {kept}


async def test_a_requests_trace_goes_into_the_events(edge: Replica) -> None:
    """A session that is opened by a plain request keeps that request's trace context, and no other's (OPS-3)."""
    async with client_of(edge) as client:
        client.headers["traceparent"] = TRACEPARENT
        traced = await started(client)
        del client.headers["traceparent"]
        untraced = await started(client)
    assert await carried(edge, traced) == {TRACEPARENT}
    assert await carried(edge, untraced) == {""}
