"""The event of a recorded file's end, made of its facts."""

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import decode_fact
from eventlog.events import Batch, Fact, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import START, Position
from eventlog.readmodel.documents import stitch
from eventlog.readmodel.views import read_document
from projections.cleaning import clean
from projections.integration_events import Event, Kind, batch_kinds, drop_words, make_event
from projections.public_json import to_listed_final
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import Replica, replica
from tests.integration.projections.facts import conversation, ended, final, keys_of, opened, with_words
from tests.support.speech import PCM, client_of, speech
from tests.support.waiting import eventually_async

KEYS = keys_of(str(uuid.UUID(int=7, version=4)))
FIELDS = [
    "version", "interaction_id", "tenant_id", "user_id", "account_id", "timestamp", "status", "data",
]  # fmt: skip
BOUND_S = 30.0

Facts = list[tuple[Position, Fact]]


def events_of(facts: Facts, keys: RunKeys = KEYS) -> list[Event]:
    """The events of recordings that a run's facts give rise to."""
    first = next(fact for _, fact in facts if isinstance(fact, SessionOpened))
    finals = [fact for _, fact in facts if isinstance(fact, UtteranceFinal)]
    return [
        make_event(kind, keys, first, (position, fact), finals)
        for position, fact in facts for kind in batch_kinds(first, fact)
    ]  # fmt: skip


def recorded(facts: Facts, batch: Batch | None = None, **end: Any) -> Facts:  # noqa: ANN401 - fields of the end
    """The same facts of a recorded file; its end may differ."""
    batch = batch or Batch(user_id="u-1", account_id="a-1")
    return [
        (position, msgspec.structs.replace(fact, batch=batch) if isinstance(fact, SessionOpened)
         else msgspec.structs.replace(fact, **end) if isinstance(fact, SessionEnded) else fact)
        for position, fact in facts
    ]  # fmt: skip


def test_events_have_words_where_the_deployment_wants_them() -> None:
    """Words go into the events of utterances and of finished recordings by a setting, and can be left out (WORD-3)."""
    said = [with_words(final(number, f"Yes {number}.")[1]) for number in range(2)]
    facts: Facts = [opened(KEYS), *((Position(one.utterance + 1, 0), one) for one in said), ended(2)]
    (_, first), *_, end = recorded(facts)
    assert isinstance(first, SessionOpened)
    plain = make_event(Kind.BATCH_COMPLETED, KEYS, first, end, said)
    whole = make_event(Kind.BATCH_COMPLETED, KEYS, first, end, said, with_words=True)
    assert whole.body["data"]["words"] == [
        {"text": "Yes", "start": 0.0, "end": 0.5, "confidence": 0.9, "speaker": "1"},
        {"text": "0.", "start": 0.5, "end": 1.0, "confidence": 0.9, "speaker": "1"},
        {"text": "Yes", "start": 2.0, "end": 2.5, "confidence": 0.9, "speaker": "1"},
        {"text": "1.", "start": 2.5, "end": 3.0, "confidence": 0.9, "speaker": "1"},
    ]
    assert drop_words(whole) == plain
    assert drop_words(plain) is None
    one = make_event(Kind.UTTERANCE, KEYS, first, (Position(1, 0), said[0]))
    spoken = make_event(Kind.UTTERANCE, KEYS, first, (Position(1, 0), said[0]), with_words=True)
    assert [word["text"] for word in spoken.body["words"]] == ["Yes", "0."]
    assert drop_words(spoken) == one
    assert one.body["language"] == "en"


@given(texts=st.lists(st.text(min_size=1), max_size=8), account_id=st.none() | st.text(min_size=1))
def test_a_finished_recording_is_one_event(texts: list[str], account_id: str | None) -> None:
    """A recording's facts give exactly one `BatchProcessingCompleted`, with its transcript and identity (BATCH-4)."""
    facts = [opened(KEYS), *(final(number, text) for number, text in enumerate(texts)), ended(len(texts))]
    [event] = events_of(recorded(facts, Batch(user_id="u-1", account_id=account_id)))
    assert (event.kind, str(event.kind)) == (Kind.BATCH_COMPLETED, "BatchProcessingCompleted")
    assert list(event.body) == FIELDS
    said = [to_listed_final(fact) for _, fact in facts if isinstance(fact, UtteranceFinal)]
    assert event.body == {
        "version": "1.0", "interaction_id": KEYS.session_id, "tenant_id": "tenant", "user_id": "u-1",
        "account_id": account_id, "timestamp": "2023-11-14T22:15:00.000+00:00", "status": "completed",
        "data": {"raw_transcript": stitch(said), "cleaned_transcript": clean(said, "en")},
    }  # fmt: skip
    assert (event.session_id, event.tenant_id) == (KEYS.session_id, "tenant")


@pytest.mark.parametrize(("reason", "kind"), [
    ("stop", Kind.BATCH_COMPLETED), ("limit", Kind.BATCH_COMPLETED),
    ("failed", Kind.BATCH_FAILED), ("deleted", Kind.BATCH_FAILED), ("idle", Kind.BATCH_FAILED),
])  # fmt: skip
def test_how_it_ended_decides_which(reason: str, kind: Kind) -> None:
    """A recording that failed, was deleted or never came whole gives `BatchProcessingFailed` and why (BATCH-4)."""
    facts = recorded(conversation(KEYS, 2), reason=reason, detail="why it is so")
    [event] = events_of(facts)
    assert event.kind is kind
    if kind is Kind.BATCH_FAILED:
        assert (event.body["status"], event.body["data"]) == ("failed", {"reason": reason, "detail": "why it is so"})
        assert "words 0" not in str(event.body)


def test_others_are_no_such_event() -> None:
    """A session that isn't a recorded file gives no such event, whatever its facts, nor does an open one (BATCH-4)."""
    assert events_of(conversation(KEYS, 3)) == []
    assert events_of(recorded(conversation(KEYS, 3))[:-1]) == []


def test_the_same_facts_are_the_same_event() -> None:
    """However often its facts are read, an event has the same id and bytes, and no two have one id (BATCH-4)."""
    facts = recorded(conversation(KEYS, 2))
    first, second = events_of(facts), events_of(facts)
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    other = keys_of(str(uuid.UUID(int=8, version=4)))
    assert events_of(recorded(conversation(other, 2)), other)[0].event_id != first[0].event_id


async def test_an_event_has_the_answer_of_the_client(redis_url: str) -> None:
    """The event of a recording holds the transcripts and the identity that its client was answered with (BATCH-4)."""
    async with behind(redis_url), replica(redis_url) as edge, client_of(edge) as http:
        headers = {**PCM, "X-User-ID": "u-7"}
        answer = (await http.post("/batch/process", content=speech(2), headers=headers)).json()
        keys = edge.core.server.keys.of(answer["interaction_id"]).run()
        [event] = events_of(await facts_of(edge, keys), keys)
    assert event.kind is Kind.BATCH_COMPLETED
    assert event.body["data"] == {name: answer[name] for name in ("raw_transcript", "cleaned_transcript")}
    names = ("interaction_id", "tenant_id", "user_id", "account_id")
    assert {name: event.body[name] for name in names} == {name: answer[name] for name in names}
    assert event.body["timestamp"] == answer["completed_at"]


async def test_a_failed_recording_has_a_failed_event(redis_url: str) -> None:
    """A file that cannot be decoded gives one `BatchProcessingFailed`, also if no request waited for it (BATCH-4)."""
    async with behind(redis_url), replica(redis_url) as edge, client_of(edge) as http:
        headers = {"content-type": "audio/webm", "prefer": "respond-async"}
        body = b"\x1aE\xdf\xa3" + bytes(5000)
        answer = await http.post("/batch/process", content=body, headers=headers)
        assert answer.status_code in {202, 422}, answer.text
        [name] = await edge.core.server.execute("KEYS", "*:session:*")
        keys = edge.core.server.keys.of(name.decode().rpartition(":")[2]).run()
        await eventually_async(lambda: read_document(edge.core.server, keys), BOUND_S)
        [event] = events_of(await facts_of(edge, keys), keys)
    assert (event.kind, event.body["data"]["reason"]) == (Kind.BATCH_FAILED, "failed")


async def facts_of(edge: Replica, keys: RunKeys) -> Facts:
    """All facts of a run."""
    return [(position, decode_fact(data)) for position, data in await edge.log.facts(keys, START)]
