"""The resources wanted at AWS, and how existing ones differ from them. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from projections.integration_events import Kind

RETENTION_S = 1_209_600
"""14 days, the longest that SQS keeps a message: nothing is lost over a long holiday."""

VISIBILITY_S = 30
"""For how long a consumer has a message to itself; it handles one in that time, or extends it."""

MAX_RECEIVES = 3
"""After which a message that no consumer deletes goes to the dead-letter queue."""

SERVICE = "events.amazonaws.com"


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Names of the resources, and the events that the rule matches."""

    bus: str = "default"
    source: str = "com.yourapp.transcription"
    queue: str = "meeting-transcripts-queue"
    dlq: str = "meeting-transcripts-dlq"
    rule: str = "capture-transcripts-rule"

    @property
    def pattern(self) -> dict[str, list[str]]:
        """The events that the rule matches."""
        return {"source": [self.source], "detail-type": [str(Kind.BATCH_COMPLETED)]}

    @property
    def target_id(self) -> str:
        """Name of the rule's target, of the 64 characters that it may have."""
        return self.queue[:64]


class Difference(NamedTuple):
    """An attribute of an existing resource that differs from the wanted one."""

    resource: str
    attribute: str
    wanted: Any
    found: Any


def rule_arn(names: Names, queue_arn: str) -> str:
    """The ARN that the rule will have, beside a queue of the same account and region."""
    _, partition, _, region, account, _ = queue_arn.split(":", 5)
    bus = names.bus.rpartition("/")[2]
    path = names.rule if bus == "default" else f"{bus}/{names.rule}"
    if names.bus.startswith("arn:"):
        _, partition, _, region, account, _ = names.bus.split(":", 5)
    return f"arn:{partition}:events:{region}:{account}:rule/{path}"


def policy(queue_arn: str, rule: str) -> dict[str, Any]:
    """The queue's policy: EventBridge may send to it for that rule, and no other sender by this policy."""
    return {
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "RuleMaySend", "Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sqs:SendMessage",
            "Resource": queue_arn, "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }],
    }  # fmt: skip


def dlq_attributes() -> dict[str, str]:
    """Attributes of the dead-letter queue."""
    return {"MessageRetentionPeriod": str(RETENTION_S)}


def queue_attributes(dlq_arn: str, queue_arn: str, rule: str) -> dict[str, str]:
    """Attributes of the queue; without those that name others, while a dry run doesn't know what these will be."""
    timing = {"VisibilityTimeout": str(VISIBILITY_S), "MessageRetentionPeriod": str(RETENTION_S)}
    if not dlq_arn:
        return timing
    return {
        **timing,
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": dlq_arn, "maxReceiveCount": MAX_RECEIVES}),
        "Policy": json.dumps(policy(queue_arn, rule)),
    }


def attribute_differences(queue: str, wanted: dict[str, str], found: dict[str, str]) -> list[Difference]:
    """The attributes of a queue that differ from the wanted ones."""
    return [
        Difference(queue, name, _parsed(value), _parsed(found.get(name)))
        for name, value in wanted.items() if _normalised(_parsed(value)) != _normalised(_parsed(found.get(name)))
    ]  # fmt: skip


def rule_differences(names: Names, found: dict[str, Any]) -> list[Difference]:
    """The attributes of a rule that differ from the wanted ones."""
    pairs = {
        "EventPattern": (names.pattern, _parsed(found.get("EventPattern"))), "State": ("ENABLED", found.get("State")),
    }  # fmt: skip
    differing = {name: pair for name, pair in pairs.items() if _normalised(pair[0]) != _normalised(pair[1])}
    return [Difference(names.rule, name, wanted, there) for name, (wanted, there) in differing.items()]


def target_differences(names: Names, wanted: dict[str, str], found: dict[str, Any]) -> list[Difference]:
    """The attributes of a target that differ from the wanted ones: they shape or limit the events on their way."""
    return [
        Difference(names.rule, f"Targets.{name}", wanted.get(name), value)
        for name, value in found.items() if name != "Id" and value != wanted.get(name)
    ]


def _parsed(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The value of JSON text, since whitespace and order in it mean nothing."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _normalised(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A form in which equal policies are equal: numbers as text, one of a list as the list, statements' names away."""
    if isinstance(value, dict):
        return {name: _normalised(one) for name, one in value.items() if name not in {"Sid", "Id"}}
    if isinstance(value, list):
        values = [_normalised(one) for one in value]
        return values[0] if len(values) == 1 else sorted(values, key=repr)
    return value if value is None else str(value)
