"""Sends a test event through bus and rule, and waits for it in the queue (BATCH-8)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.readmodel.statuses import format_iso
from projections.eventbridge import entries
from projections.eventbridge.bodies import find_fault
from projections.eventbridge.responses import read_result
from projections.forwarding.sink import Outcome
from projections.integration_events import VERSION, Event, Kind
from stenolog.operations.aws.access import Access, AwsError, aws_errors, is_missing
from stenolog.operations.aws.desired_state import Names

WAIT_S = 30
"""How long the event may take; it usually takes a second."""

VISIBILITY_S = 10
"""For how long a received message is hidden from others at first."""

POLL_S = 5
"""Of one long poll: a few requests in all, and progress to be seen."""

USER_ID = "stenolog-verify"
"""User of the test event, by which consumers can recognise it."""

MISSING_EVENT = (
    "the event did not come: is the rule enabled, does its pattern match, may it send to the queue, and does no other "
    "consumer take it? `stenolog aws setup --dry-run` shows the differences"
)
"""Possible causes, in the order in which to check."""

Note = Callable[[str], None]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a test.

    Attributes:
        ok: The event came unchanged.
        interaction_id: Of the test event.
        event_id: Its stable id.
        seconds: How long it took, or was waited for.
        problems: A line each.
    """

    ok: bool
    interaction_id: str
    event_id: str
    seconds: float
    problems: list[str]


class Verify:
    """One run of `stenolog aws verify`. It deletes no message but its own."""

    def __init__(self, access: Access, names: Names, note: Note, *, wait_s: float = WAIT_S) -> None:
        """`note` is called with each line for a person."""
        self._names, self._note, self._wait_s = names, note, wait_s
        self._sqs, self._events = access.client("sqs"), access.client("events")
        self._others: dict[str, str] = {}  # message id to receipt handle, of messages that aren't ours

    def run(self) -> Verified:
        """Send, wait, check, delete.

        Raises:
            AwsError: if AWS refuses something.
        """
        url = self._queue_url()
        event = _test_event()
        started_s = time.monotonic()
        self._send(event)
        self._note(f"sent a test event to the bus {self._names.bus}: interaction {event.session_id}")
        try:
            message = self._awaited(url, event, started_s + self._wait_s)
        finally:
            self._give_back(url)
        problems = [MISSING_EVENT]
        if message is not None:
            problems = envelope_problems(message, self._names, event)
            with aws_errors("delete the test event"):
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return Verified(
            ok=not problems, interaction_id=event.session_id, event_id=event.event_id,
            seconds=round(time.monotonic() - started_s, 2), problems=problems,
        )  # fmt: skip

    def _queue_url(self) -> str:
        with aws_errors(f"find the queue {self._names.queue}"):
            try:
                return str(self._sqs.get_queue_url(QueueName=self._names.queue)["QueueUrl"])
            except self._sqs.exceptions.ClientError as error:
                if is_missing(error):
                    name = self._names.queue
                    raise AwsError(f"the queue {name} does not exist; `stenolog aws setup` makes it") from error
                raise

    def _send(self, event: Event) -> None:
        made = entries.make_entry(0, event, event.body, source=self._names.source, bus_name=self._names.bus)
        with aws_errors(f"put an event on the bus {self._names.bus}"):
            [answer] = self._events.put_events(Entries=[made.fields])["Entries"]
        result = read_result(answer)
        if result.outcome is not Outcome.SENT:
            raise AwsError(f"the bus {self._names.bus} did not take the event: {result.reason}")

    def _awaited(self, url: str, event: Event, deadline_s: float) -> dict[str, Any] | None:
        """Our message, as soon as it comes."""
        while (left_s := deadline_s - time.monotonic()) > 0:
            with aws_errors(f"read the queue {self._names.queue}"):
                answer = self._sqs.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=VISIBILITY_S,
                    WaitTimeSeconds=max(1, min(POLL_S, int(left_s))),
                )  # fmt: skip
            messages: list[dict[str, Any]] = answer.get("Messages", [])
            mine = next((one for one in messages if event.session_id in one["Body"]), None)
            self._keep_away(url, [one for one in messages if one is not mine], left_s)
            if mine is not None:
                return mine
        return None

    def _keep_away(self, url: str, others: list[dict[str, Any]], left_s: float) -> None:
        """Keep messages of others from being received again by this run: three receives make a dead letter."""
        self._others |= {one["MessageId"]: one["ReceiptHandle"] for one in others}
        self._change_visibility(url, [one["ReceiptHandle"] for one in others], max(VISIBILITY_S, int(left_s) + POLL_S))

    def _give_back(self, url: str) -> None:
        handles = list(self._others.values())
        for first in range(0, len(handles), 10):
            self._change_visibility(url, handles[first:first + 10], 0)
        if handles:
            self._note(f"warning: {len(handles)} messages that wait in the queue were received once and given back")

    def _change_visibility(self, url: str, handles: list[str], visibility_s: int) -> None:
        if not handles:
            return
        try:
            with aws_errors("give back messages of others"):
                self._sqs.change_message_visibility_batch(QueueUrl=url, Entries=[
                    {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": visibility_s}
                    for number, handle in enumerate(handles)
                ])  # fmt: skip
        except AwsError as error:  # no reason to fail: they come back by themselves
            self._note(f"warning: {error}")


def envelope_problems(message: dict[str, Any], names: Names, event: Event) -> list[str]:
    """Differences of a received event from the sent one; fields by name, without their content."""
    try:
        envelope = msgspec.json.decode(message["Body"], type=dict[str, Any])
    except msgspec.DecodeError:
        return ["the message is no JSON object: does the rule's target transform its input?"]
    wanted = {
        "source": names.source, "detail-type": str(event.kind), "detail": event.body,
        "resources": [f"urn:uuid:{event.event_id}"],
    }  # fmt: skip
    problems = [f"{name} is not as sent" for name, value in wanted.items() if envelope.get(name) != value]
    problems += [f"{name} is missing" for name in ("id", "time", "region") if not envelope.get(name)]
    detail = envelope.get("detail")
    reason = find_fault(event.kind, detail) if isinstance(detail, dict) else "detail is no object"
    return [*problems, *([reason] if reason else [])]


def _test_event() -> Event:
    interaction_id, tenant_id = str(uuid.uuid4()), str(uuid.uuid4())
    now_ms = int(time.time() * 1000)
    text = "This is a test of the flow of events."
    return Event(
        event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, interaction_id)), kind=Kind.BATCH_COMPLETED,
        session_id=interaction_id, tenant_id=tenant_id, occurred_ms=now_ms,
        body={
            "version": VERSION, "interaction_id": interaction_id, "tenant_id": tenant_id, "user_id": USER_ID,
            "account_id": None, "timestamp": format_iso(now_ms), "status": "completed",
            "data": {"raw_transcript": text.lower().rstrip("."), "cleaned_transcript": text},
        },
    )  # fmt: skip
