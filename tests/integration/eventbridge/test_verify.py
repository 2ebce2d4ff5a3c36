import json
from typing import Any

import pytest

from stenolog.operations.aws import verify
from stenolog.operations.aws.access import AwsError
from stenolog.operations.aws.desired_state import Names
from stenolog.operations.aws.verify import Verified, Verify, envelope_problems
from tests.integration.eventbridge.calls import Watched
from tests.integration.eventbridge.events import client, completed, provisioned
from tests.integration.eventbridge.scripted import ScriptedAws, refusal, results

NAMES = Names()


def run(url: str, *, wait_s: float = verify.WAIT_S) -> tuple[Verified, Watched, list[str]]:
    """What came of it, the calls that it took, and the lines that were said."""
    access, said = Watched(url), list[str]()
    return Verify(access, NAMES, said.append, wait_s=wait_s).run(), access, said


def waiting(url: str, queue_url: str) -> list[dict[str, Any]]:
    """The messages in a queue, with how often they were received."""
    found: list[dict[str, Any]] = client("sqs", url).receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["ApproximateReceiveCount"],
    ).get("Messages", [])  # fmt: skip
    return found


def test_a_test_event_comes_and_is_taken_away(emulator: str) -> None:
    """An event with an interaction id of its own comes through, is checked, and its message deleted (BATCH-8)."""
    found = provisioned(emulator)
    first, access, said = run(emulator)
    second, _, _ = run(emulator)
    assert (first.ok, second.ok, first.problems) == (True, True, [])
    assert first.interaction_id != second.interaction_id
    assert first.interaction_id in said[0]
    received = [params for name, params in access.calls if name == "sqs:ReceiveMessage"]
    assert {params["VisibilityTimeout"] for params in received} == {10}
    assert verify.WAIT_S == 30
    assert waiting(emulator, found.queue_url) == []


def test_an_event_that_never_comes(emulator: str) -> None:
    """Where no rule leads to the queue, the wait ends and says what to look at (BATCH-8)."""
    client("sqs", emulator).create_queue(QueueName=NAMES.queue)
    found, _, _ = run(emulator, wait_s=1)
    assert (found.ok, found.problems) == (False, [verify.MISSING_EVENT])
    assert found.seconds >= 1


def test_messages_of_others_stay(emulator: str) -> None:
    """Messages that aren't its own are neither deleted nor received more than once, and are given back (BATCH-8)."""
    found = provisioned(emulator)
    sqs = client("sqs", emulator)
    for number in range(15):
        sqs.send_message(QueueUrl=found.queue_url, MessageBody=json.dumps({"detail": {"number": number}}))
    checked, access, said = run(emulator)
    assert checked.ok
    assert access.actions().count("sqs:DeleteMessage") == 1
    assert "15 messages" in said[-1]
    left = [*waiting(emulator, found.queue_url), *waiting(emulator, found.queue_url)]
    assert sorted(json.loads(one["Body"])["detail"]["number"] for one in left) == list(range(15))
    assert {one["Attributes"]["ApproximateReceiveCount"] for one in left} == {"2"}  # by it, and now by us


def envelope(**changes: object) -> dict[str, Any]:
    """A message with an event as the service wraps it, but for `changes`."""
    event = completed(session_id="0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001", tenant_id=TENANT)
    wrapped = {
        "version": "0", "id": "1", "detail-type": "BatchProcessingCompleted", "source": NAMES.source,
        "time": "2026-11-22T00:00:00Z", "region": "us-east-1", "resources": [f"urn:uuid:{event.event_id}"],
        "detail": event.body,
    }  # fmt: skip
    return {"Body": json.dumps({**wrapped, **{name.replace("_", "-"): value for name, value in changes.items()}})}


TENANT = "0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b002"


@pytest.mark.parametrize(("message", "problems"), [
    (envelope(), []),
    (envelope(source="else"), ["source is not as sent"]),
    (envelope(detail_type="else"), ["detail-type is not as sent"]),
    (envelope(resources=[]), ["resources is not as sent"]),
    (envelope(id=""), ["id is missing"]),
    (envelope(detail={}), ["detail is not as sent", "the body breaks its schema at $.version"]),
    (envelope(detail="a"), ["detail is not as sent", "detail is no object"]),
    ({"Body": "0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001"},
     ["the message is no JSON object: does the rule's target transform its input?"]),
])  # fmt: skip
def test_the_envelope_is_checked(message: dict[str, Any], problems: list[str]) -> None:
    """Source, detail-type, resources, ids and body must be as sent; differences are reported by name (BATCH-8)."""
    event = completed(session_id="0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001", tenant_id=TENANT)
    assert envelope_problems(message, NAMES, event) == problems


def test_a_queue_that_isnt_there(emulator: str) -> None:
    """A missing queue is reported, with the command that makes it (BATCH-8)."""
    with pytest.raises(AwsError, match="queue meeting-transcripts-queue does not exist; `stenolog aws setup` makes it"):
        run(emulator)


def test_a_bus_that_refuses(scripted: ScriptedAws) -> None:
    """An event that the bus doesn't take is reported at once, by the service's code (BATCH-8)."""
    scripted.script = [
        lambda _: (200, {"QueueUrl": f"{scripted.url}/1/q"}),
        lambda _: results([{"ErrorCode": "NotAuthorizedForSourceException"}]),
    ]
    with pytest.raises(AwsError, match="NotAuthorizedForSourceException"):
        run(scripted.url)
    scripted.script = [
        lambda _: (200, {"QueueUrl": f"{scripted.url}/1/q"}), lambda _: refusal("AccessDeniedException", "no"),
    ]
    with pytest.raises(AwsError, match="docs/iam"):
        run(scripted.url)
