"""The cleaned text beside the raw one, and recordings that never came whole."""

import uuid

import httpx2
import msgspec
import pytest

from eventlog.events import Batch, SessionStarted
from eventlog.keys import RunKeys
from eventlog.log import Code
from eventlog.readmodel.documents import decode_document
from eventlog.readmodel.views import read_document
from eventlog.redis.redis_log import RedisLog
from projections.cleaning import clean
from projections.lists import Lists
from tests.integration.edge.replicas import RATE_HZ, Replica
from tests.integration.projections.facts import conversation, keys_of
from tests.integration.projections.model import Model
from tests.support.edge_clients import open_session, projecting, write_facts
from tests.support.speech import refusal
from tests.support.waiting import eventually_async

BOUND_S = 30.0


def test_the_document_holds_the_cleaned_text() -> None:
    """A run's document holds the readable text, made of the same finals as the raw one (BATCH-3, BATCH-4)."""
    keys = keys_of("a-session")
    facts = conversation(keys, 3)
    model = Model(facts)
    model.project(Lists(), keys, [facts])
    document = decode_document(model.keys[keys.document])
    assert document.transcript == "words 0. words 1. words 2."
    assert document.cleaned == clean(document.utterances, "en") != ""


def test_an_older_document_is_read() -> None:
    """A document of a version without cleaned text decodes, without one (OPS-1)."""
    keys = keys_of("a-session")
    facts = conversation(keys, 1)
    model = Model(facts)
    model.project(Lists(), keys, [facts])
    fields = msgspec.json.decode(model.keys[keys.document])
    del fields["cleaned"]
    assert decode_document(msgspec.json.encode(fields)).cleaned == ""


async def test_a_living_session_has_no_cleaned_text(
    redis_url: str, edge: Replica, http: httpx2.AsyncClient
) -> None:
    """The cleaned text is null until the session has ended, and then the document's (SESS-4, BATCH-3)."""
    keys = await open_session(edge)
    found = (await http.get(f"/v1/sessions/{keys.session_id}/transcript")).json()
    assert (found["state"], found["cleaned"]) == ("active", None)
    async with projecting(redis_url):
        await write_facts(edge, keys, conversation(keys, 2))
        document = await eventually_async(lambda: read_document(edge.core.server, keys), BOUND_S)
    found = (await http.get(f"/v1/sessions/{keys.session_id}/transcript")).json()
    assert document is not None
    assert (found["state"], found["cleaned"]) == ("closed", document.cleaned)
    assert found["cleaned"]


@pytest.mark.usefixtures("path")
async def test_a_truncated_recording_has_no_result(edge: Replica, http: httpx2.AsyncClient) -> None:
    """A recording whose edge died before its end is reported as cut off, not as processed (BATCH-1, SESS-7)."""
    keys = await started(edge.log, edge)
    assert (await http.get(f"/batch/{keys.session_id}")).status_code == 202
    assert await edge.log.seal(keys.session, "idle") is Code.OK

    async def outcome() -> tuple[int, str] | None:
        answer = await http.get(f"/batch/{keys.session_id}")
        return None if answer.status_code == 202 else refusal(answer)

    assert await eventually_async(outcome, BOUND_S) == (422, "invalid_audio")


async def started(log: RedisLog, edge: Replica) -> RunKeys:
    """A recorded file's session as its edge leaves it that dies."""
    session_id = str(uuid.uuid4())
    keys = edge.core.server.keys.of(session_id)
    started = SessionStarted(
        session_id=session_id, sample_rate_hz=RATE_HZ, engine="mock", batch=Batch(user_id="u-1"), started_ms=1
    )
    assert (await log.open(keys, started, "hash")).code is Code.OK
    return keys.run()
