import json
import uuid
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.eventbridge import entries
from projections.eventbridge.bodies import find_fault, schema
from projections.integration_events import Event, Kind
from tests.integration.eventbridge.events import SAID, completed, failed
from tests.support.tree import ROOT

PAGES = {
    Kind.BATCH_COMPLETED: "batch-processing-completed.json", Kind.BATCH_FAILED: "batch-processing-failed.json",
}  # fmt: skip
REFERENCE = {"bucket": "b", "key": "k", "bytes": 3, "sha256": "0" * 64}
Body = dict[str, Any]
Change = Callable[[Body], object]


def agrees(kind: Kind, body: Body) -> bool:
    """Whether the published schema takes the body."""
    checker = jsonschema.Draft202012Validator(schema(kind), format_checker=jsonschema.FormatChecker())
    return bool(checker.is_valid(body))


@pytest.mark.parametrize("kind", PAGES)
def test_the_published_schemas_are_those_that_are_checked(kind: Kind) -> None:
    """What docs/schemas holds (by `python -m scripts.event_schemas`) is what bodies are checked against (BATCH-4)."""
    published = json.loads((ROOT / "docs/schemas" / PAGES[kind]).read_text(encoding="utf-8"))
    assert published == schema(kind)
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("event", [
    completed(), completed(""), completed(words=True), failed(), failed(""),
])
def test_bodies_of_facts_keep_the_schema(event: Event) -> None:
    """Completed and failed recordings, with and without words, give bodies of the fixed form (BATCH-4)."""
    assert (find_fault(event.kind, event.body), agrees(event.kind, event.body)) == ("", True)
    status = "failed" if event.kind is Kind.BATCH_FAILED else "completed"
    assert list(event.body) == [
        "version", "interaction_id", "tenant_id", "user_id", "account_id", "timestamp", "status", "data",
    ]
    assert (event.body["version"], event.body["status"], event.body["account_id"]) == ("1.0", status, None)


@pytest.mark.parametrize(("change", "place"), [
    (lambda body: body.update(version="1.1"), "$.version"),
    (lambda body: body.update(interaction_id="1"), "$.interaction_id"),
    (lambda body: body.update(interaction_id=str(uuid.uuid1())), "$.interaction_id"),
    (lambda body: body.update(tenant_id="a cme"), "$.tenant_id"),
    (lambda body: body.update(tenant_id=""), "$.tenant_id"),
    (lambda body: body.update(tenant_id=body["tenant_id"] + "\n"), "$.tenant_id"),
    (lambda body: body.update(user_id=""), "$.user_id"),
    (lambda body: body.update(account_id=7), "$.account_id"),
    (lambda body: body.pop("account_id"), "$.account_id"),
    (lambda body: body.update(timestamp="yesterday"), "$.timestamp"),
    (lambda body: body.update(timestamp=1_700_000_000), "$.timestamp"),
    (lambda body: body.update(status="failed"), "$.status"),
    (lambda body: body.update(more=1), "$"),
    (lambda body: body.pop("data"), "$.data"),
    (lambda body: body.update(data=SAID), "$.data"),
    (lambda body: body["data"].update(raw_transcript=None), "$.data.raw_transcript"),
    (lambda body: body["data"].pop("cleaned_transcript"), "$.data.cleaned_transcript"),
    (lambda body: body["data"].update(segments=[]), "$.data"),
    (lambda body: body["data"].update(reference=REFERENCE), "$.data"),
    (lambda body: body.update(data={"reference": {**REFERENCE, "bytes": 0}}), "$.data.reference.bytes"),
    (lambda body: body.update(data={"reference": {**REFERENCE, "sha256": "0"}}), "$.data.reference.sha256"),
    (lambda body: body.update(data={"reference": REFERENCE, "raw_transcript": SAID}), "$.data"),
])  # fmt: skip
def test_a_broken_body_is_named_by_its_place(change: Change, place: str) -> None:
    """Whatever the published schema refuses is refused before it is sent, naming the field and no content (BATCH-4)."""
    body = json.loads(json.dumps(completed().body))
    change(body)
    assert not agrees(Kind.BATCH_COMPLETED, body)
    assert find_fault(Kind.BATCH_COMPLETED, body) == f"the body breaks its schema at {place}"


def test_references_and_accounts_keep_the_schema() -> None:
    """A body may refer to an object in place of the texts, and may name an account (BATCH-4)."""
    body = {**completed().body, "account_id": "a-1", "data": {"reference": REFERENCE}}
    assert (find_fault(Kind.BATCH_COMPLETED, body), agrees(Kind.BATCH_COMPLETED, body)) == ("", True)


def test_the_same_event_has_the_same_id_and_bytes() -> None:
    """An event that is sent again is the same in all that consumers see of us (BATCH-4)."""
    session_id, tenant_id = str(uuid.uuid4()), str(uuid.uuid4())
    first, again = (completed(session_id=session_id, tenant_id=tenant_id) for _ in range(2))
    made = [entries.make_entry(0, one, one.body, source="s", bus_name="b").fields for one in (first, again)]
    assert made[0] == made[1]
    assert made[0]["Resources"] == [f"urn:uuid:{first.event_id}"]


def test_sizes_are_counted_as_the_service_counts_them() -> None:
    """Time counts 14 bytes, everything else its UTF-8 length (BATCH-6)."""
    event = completed("grüße 🎉")
    entry = entries.make_entry(0, event, event.body, source="söurce", bus_name="not counted")
    detail = json.dumps(event.body, ensure_ascii=False, separators=(",", ":")).encode()
    assert entry.fields["Detail"].encode() == detail
    assert entry.size_bytes == 14 + 7 + len("BatchProcessingCompleted") + len(detail) + len("urn:uuid:") + 36


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), max_size=40), st.integers(60, 200))
def test_requests_keep_all_limits(sizes: list[tuple[int, int]], most_bytes: int) -> None:
    """Requests hold ten entries, so many bytes and one event of a session at most, all in order (BATCH-6)."""
    made = []
    for place, (session, length) in enumerate(sizes):
        event = Event(
            event_id="", kind=Kind.BATCH_COMPLETED, session_id=str(session), tenant_id="", occurred_ms=0, body={},
        )  # fmt: skip
        made.append(entries.Entry(place, event, {}, length, length))
    requests = list(entries.split_requests(made, most_bytes))
    assert [one for request in requests for one in request] == made
    for request in requests:
        assert 1 <= len(request) <= 10
        assert sum(one.size_bytes for one in request) <= most_bytes
        assert len({one.event.session_id for one in request}) == len(request)
