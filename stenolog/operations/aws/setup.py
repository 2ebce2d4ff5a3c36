"""Provisions the receivers of finished recordings: dead-letter queue, queue, rule, target, in this order (BATCH-7)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec

from stenolog.operations.aws import desired_state
from stenolog.operations.aws.access import Access, AwsError, aws_errors, is_missing
from stenolog.operations.aws.desired_state import Difference, Names

SETTLE_TRIES = 10
"""A new queue may not be known everywhere for some seconds; SQS asks for one second at least."""

SETTLE_PAUSE_S = 0.5
"""Between two tries to find it."""

Note = Callable[[str], None]


class Provisioned(msgspec.Struct, kw_only=True):
    """The resources at the end; those that a dry run would make have no address."""

    dry_run: bool = False
    queue_url: str = ""
    dlq_url: str = ""
    rule_arn: str = ""
    created: list[str] = []
    kept: list[str] = []
    differences: list[Difference] = []


class Setup:
    """One run of `stenolog aws setup`. Existing resources are never changed."""

    def __init__(self, access: Access, names: Names, note: Note, *, dry_run: bool = False) -> None:
        """`note` is called with each line for a person: resources made and kept, and differences."""
        self._names, self._note, self._dry_run = names, note, dry_run
        self._sqs, self._events = access.client("sqs"), access.client("events")
        self._found = Provisioned(dry_run=dry_run)

    def run(self) -> Provisioned:
        """Make the missing resources.

        Raises:
            AwsError: if AWS refuses something; resources made until then stay, and the next run continues from there.
        """
        names, found = self._names, self._found
        found.dlq_url = self._queue("dead-letter queue", names.dlq, desired_state.dlq_attributes)
        dlq_arn = self._arn(found.dlq_url)
        queue_arn = dlq_arn.removesuffix(names.dlq) + names.queue if dlq_arn else ""
        expected_arn = desired_state.rule_arn(names, queue_arn) if queue_arn else ""
        found.queue_url = self._queue(
            "queue", names.queue, lambda: desired_state.queue_attributes(dlq_arn, queue_arn, expected_arn)
        )
        queue_arn = queue_arn or self._arn(found.queue_url)
        found.rule_arn = self._rule()
        if found.rule_arn and found.queue_url and found.rule_arn != expected_arn:
            # Not seen on AWS, where the ARN follows from the names; without this the rule couldn't send.
            self._correct_policy(queue_arn)
        self._target(queue_arn)
        return found

    def _queue(self, kind: str, name: str, attributes: Callable[[], dict[str, str]]) -> str:
        """Its URL; empty if a dry run would make it."""
        url = self._existing_queue(name)
        if url:
            self._kept(kind, name)
            self._differ(desired_state.attribute_differences(name, attributes(), self._attributes(url)))
            return url
        if self._made(kind, name):
            with aws_errors(f"create the {kind} {name}"):
                url = str(self._sqs.create_queue(QueueName=name, Attributes=attributes())["QueueUrl"])
            self._settle(url)
        return url

    def _existing_queue(self, name: str) -> str:
        with aws_errors(f"look for the queue {name}"):
            try:
                return str(self._sqs.get_queue_url(QueueName=name)["QueueUrl"])
            except self._sqs.exceptions.ClientError as error:
                if is_missing(error):
                    return ""
                raise

    def _settle(self, url: str) -> None:
        """Wait until a new queue can be asked for its attributes."""
        for _ in range(SETTLE_TRIES):
            with aws_errors(f"read the attributes of {url}"):
                try:
                    self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
                except self._sqs.exceptions.ClientError as error:
                    if not is_missing(error):
                        raise
                else:
                    return
            time.sleep(SETTLE_PAUSE_S)
        raise AwsError(f"{url} was created and can't be found since; run this again in a minute")

    def _attributes(self, url: str) -> dict[str, str]:
        with aws_errors(f"read the attributes of {url}"):
            found: dict[str, str] = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            return found

    def _arn(self, url: str) -> str:
        return self._attributes(url)["QueueArn"] if url else ""

    def _rule(self) -> str:
        """Its ARN; empty if a dry run would make it."""
        names = self._names
        with aws_errors(f"look for the rule {names.rule} of the bus {names.bus}"):
            try:
                found = self._events.describe_rule(Name=names.rule, EventBusName=names.bus)
            except self._events.exceptions.ResourceNotFoundException:
                found = None
        if found is not None:
            self._kept("rule", names.rule)
            self._differ(desired_state.rule_differences(names, found))
            return str(found["Arn"])
        if not self._made("rule", names.rule):
            return ""
        with aws_errors(f"create the rule {names.rule} on the bus {names.bus} (which must exist)"):
            return str(self._events.put_rule(
                Name=names.rule, EventBusName=names.bus, EventPattern=json.dumps(names.pattern), State="ENABLED",
                Description="Finished recordings of Stenolog to a queue",
            )["RuleArn"])  # fmt: skip

    def _correct_policy(self, queue_arn: str) -> None:
        if self._names.queue in self._found.created:
            policy = json.dumps(desired_state.policy(queue_arn, self._found.rule_arn))
            with aws_errors(f"set the policy of the queue {self._names.queue}"):
                self._sqs.set_queue_attributes(QueueUrl=self._found.queue_url, Attributes={"Policy": policy})

    def _target(self, queue_arn: str) -> None:
        names = self._names
        target = {"Id": names.target_id, "Arn": queue_arn}
        label = f"{names.rule} → {names.queue}"
        found = [one for one in self._targets() if one["Arn"] == queue_arn] if self._found.rule_arn else []
        if found:
            self._kept("target", label)
            self._differ(desired_state.target_differences(names, target, found[0]))
        elif self._made("target", label):
            with aws_errors(f"make {names.queue} the target of {names.rule}"):
                answer = self._events.put_targets(Rule=names.rule, EventBusName=names.bus, Targets=[target])
            if answer.get("FailedEntryCount"):
                raise AwsError(f"can't make {names.queue} the target of {names.rule}: "
                               f"{answer['FailedEntries'][0].get('ErrorCode')}")

    def _targets(self) -> list[dict[str, Any]]:
        names = self._names
        with aws_errors(f"list the targets of the rule {names.rule}"):
            # One page: a rule has five targets at most, and a page a hundred.
            found = self._events.list_targets_by_rule(Rule=names.rule, EventBusName=names.bus)
            return list(found["Targets"])

    def _made(self, kind: str, name: str) -> bool:
        """Whether it is to be made, and no dry run; noted either way."""
        self._found.created.append(name)
        self._note(f"{'would create' if self._dry_run else 'creating'} {kind} {name}")
        return not self._dry_run

    def _kept(self, kind: str, name: str) -> None:
        self._found.kept.append(name)
        self._note(f"warning: {kind} {name} exists and is kept unchanged")

    def _differ(self, differences: list[Difference]) -> None:
        self._found.differences += differences
        for resource, attribute, wanted, found in differences:
            self._note(f"warning: {resource}: {attribute} is {json.dumps(found)}, would be {json.dumps(wanted)}")
