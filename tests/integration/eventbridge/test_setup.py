import json
from typing import Any

import pytest

from stenolog.operations.aws import desired_state
from stenolog.operations.aws.access import AwsError
from stenolog.operations.aws.desired_state import Names, rule_arn
from stenolog.operations.aws.setup import Provisioned, Setup
from tests.integration.eventbridge.calls import Watched
from tests.integration.eventbridge.events import client
from tests.integration.eventbridge.scripted import ScriptedAws, refusal
from tests.support.tree import ROOT

RULE_ARN = "arn:aws:events:us-east-1:123456789012:rule/capture-transcripts-rule"
QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:meeting-transcripts-queue"
DLQ_ARN = "arn:aws:sqs:us-east-1:123456789012:meeting-transcripts-dlq"


def run(url: str, *, dry_run: bool = False, **names: str) -> tuple[Provisioned, Watched, list[str]]:
    """The provisioned resources, the calls that they took, and the lines printed."""
    access, said = Watched(url), list[str]()
    return Setup(access, Names(**names), said.append, dry_run=dry_run).run(), access, said


def attributes(url: str, queue_url: str) -> dict[str, str]:
    """All attributes of a queue."""
    found: dict[str, str] = client("sqs", url).get_queue_attributes(
        QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]  # fmt: skip
    return found


def test_everything_is_made_in_order(emulator: str) -> None:
    """Dead-letter queue, queue, rule and target are made, in this order and once each (BATCH-7)."""
    found, access, said = run(emulator)
    assert access.actions(writing=True) == ["sqs:CreateQueue", "sqs:CreateQueue", "events:PutRule", "events:PutTargets"]
    made = [params.get("QueueName") or params.get("Name") or params.get("Rule")
            for name, params in access.calls if name.startswith(("sqs:Create", "events:Put"))]  # fmt: skip
    names = ["meeting-transcripts-dlq", "meeting-transcripts-queue", "capture-transcripts-rule"]
    assert made == [*names, "capture-transcripts-rule"]
    assert found.created[:3] == names
    assert (len(found.created), found.kept, found.differences) == (4, [], [])
    assert [line.split(" ")[0] for line in said] == ["creating"] * 4
    assert found.rule_arn == RULE_ARN
    assert found.queue_url.endswith("/meeting-transcripts-queue")
    assert found.dlq_url.endswith("/meeting-transcripts-dlq")


def test_the_queues_are_as_they_must_be(emulator: str) -> None:
    """Retention, visibility, redrive and the right to send are read back as required (BATCH-7)."""
    found, _, _ = run(emulator)
    dlq, queue = attributes(emulator, found.dlq_url), attributes(emulator, found.queue_url)
    assert (dlq["MessageRetentionPeriod"], dlq["QueueArn"]) == ("1209600", DLQ_ARN)
    assert (queue["VisibilityTimeout"], queue["MessageRetentionPeriod"]) == ("30", "1209600")
    assert "FifoQueue" not in queue
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": DLQ_ARN, "maxReceiveCount": 3}
    [statement] = json.loads(queue["Policy"])["Statement"]
    assert statement.pop("Sid")
    assert statement == {
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": QUEUE_ARN, "Condition": {"ArnEquals": {"aws:SourceArn": RULE_ARN}},
    }  # fmt: skip
    assert "Policy" not in dlq


def test_the_rule_is_as_it_must_be(emulator: str) -> None:
    """The rule is enabled, takes source and detail-type, and sends the whole event to the queue alone (BATCH-7)."""
    run(emulator, source="org.example.speech")
    events = client("events", emulator)
    rule = events.describe_rule(Name="capture-transcripts-rule")
    assert (rule["State"], rule["EventBusName"]) == ("ENABLED", "default")
    assert json.loads(rule["EventPattern"]) == {
        "source": ["org.example.speech"], "detail-type": ["BatchProcessingCompleted"],
    }
    targets = events.list_targets_by_rule(Rule="capture-transcripts-rule")["Targets"]
    assert targets == [{"Id": "meeting-transcripts-queue", "Arn": QUEUE_ARN}]


def test_existing_resources_are_kept(emulator: str) -> None:
    """A second run changes nothing, warns of all that it keeps, and prints the same (BATCH-7)."""
    first, _, _ = run(emulator)
    second, access, said = run(emulator)
    assert access.actions(writing=True) == []
    assert (second.queue_url, second.dlq_url, second.rule_arn) == (first.queue_url, first.dlq_url, first.rule_arn)
    assert (second.created, second.kept, second.differences) == ([], first.created, [])
    assert [line for line in said if not line.startswith("warning: ")] == []
    assert len(said) == 4


@pytest.mark.parametrize("there", [1, 2, 3])
def test_a_setup_continues_where_another_was_broken_off(emulator: str, there: int) -> None:
    """What an earlier run made before it failed is kept, and the rest is made (BATCH-7)."""
    everything, _, _ = run(emulator)
    events, sqs = client("events", emulator), client("sqs", emulator)
    events.remove_targets(Rule="capture-transcripts-rule", Ids=["meeting-transcripts-queue"])
    if there < 3:
        events.delete_rule(Name="capture-transcripts-rule")
    if there < 2:
        sqs.delete_queue(QueueUrl=everything.queue_url)
    again, access, _ = run(emulator)
    assert len(again.kept) == there
    assert len(access.actions(writing=True)) == 4 - there
    assert run(emulator)[0].differences == []


def test_differences_are_reported_and_left(emulator: str) -> None:
    """An attribute that exists and differs is reported as wanted and found, and stays (BATCH-7)."""
    sqs, events = client("sqs", emulator), client("events", emulator)
    sqs.create_queue(QueueName="meeting-transcripts-dlq", Attributes={"MessageRetentionPeriod": "345600"})
    url = sqs.create_queue(QueueName="meeting-transcripts-queue", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    events.put_rule(Name="capture-transcripts-rule", State="DISABLED", EventPattern='{"source": ["else"]}')
    target = {"Id": "x", "Arn": QUEUE_ARN, "InputPath": "$.detail"}
    events.put_targets(Rule="capture-transcripts-rule", Targets=[target])
    found, access, said = run(emulator)
    assert access.actions(writing=True) == []
    differing = {(one.resource, one.attribute): (one.wanted, one.found) for one in found.differences}
    assert differing["meeting-transcripts-dlq", "MessageRetentionPeriod"] == ("1209600", "345600")
    assert differing["meeting-transcripts-queue", "VisibilityTimeout"] == ("30", "60")
    assert differing["meeting-transcripts-queue", "RedrivePolicy"][1] is None
    assert differing["meeting-transcripts-queue", "Policy"][1] is None
    assert differing["capture-transcripts-rule", "State"] == ("ENABLED", "DISABLED")
    assert differing["capture-transcripts-rule", "EventPattern"][1] == {"source": ["else"]}
    assert differing["capture-transcripts-rule", "Targets.InputPath"] == (None, "$.detail")
    assert 'warning: meeting-transcripts-queue: VisibilityTimeout is "60", would be "30"' in said
    assert attributes(emulator, url)["VisibilityTimeout"] == "60"


@pytest.mark.parametrize(("change", "differs"), [
    ({"Principal": {"Service": ["events.amazonaws.com"]}, "Action": ["sqs:SendMessage"], "Sid": "other"}, False),
    ({"Principal": "*"}, True), ({"Action": "sqs:*"}, True), ({"Condition": {}}, True),
    ({"Condition": {"ArnEquals": {"aws:SourceArn": RULE_ARN + "2"}}}, True),
])  # fmt: skip
def test_a_policy_differs_by_what_it_allows(emulator: str, change: dict[str, Any], differs: bool) -> None:  # noqa: FBT001
    """A policy that allows the same in other words is no difference, and one that allows more or less is (BATCH-7)."""
    found, _, _ = run(emulator)
    policy = json.loads(attributes(emulator, found.queue_url)["Policy"])
    policy["Statement"][0] |= change
    client("sqs", emulator).set_queue_attributes(QueueUrl=found.queue_url, Attributes={"Policy": json.dumps(policy)})
    assert [one.attribute for one in run(emulator)[0].differences] == (["Policy"] if differs else [])


def test_a_dry_run_only_looks(emulator: str) -> None:
    """A dry run lists what would be made and makes nothing (BATCH-7)."""
    found, access, said = run(emulator, dry_run=True)
    assert access.actions(writing=True) == []
    assert (found.queue_url, found.dlq_url, found.rule_arn, len(found.created)) == ("", "", "", 4)
    assert [line for line in said if not line.startswith("would create ")] == []
    assert "QueueUrls" not in client("sqs", emulator).list_queues()


def test_a_bus_of_ones_own(emulator: str) -> None:
    """On a bus of one's own the rule's ARN, which the queue's policy names, has the bus in it (BATCH-7)."""
    client("events", emulator).create_event_bus(Name="speech")
    found, _, _ = run(emulator, bus="speech")
    assert found.rule_arn == "arn:aws:events:us-east-1:123456789012:rule/speech/capture-transcripts-rule"
    assert found.rule_arn in attributes(emulator, found.queue_url)["Policy"]
    arn = "arn:aws:events:us-east-1:123456789012:event-bus/speech"
    assert rule_arn(Names(bus=arn), QUEUE_ARN) == found.rule_arn


def test_a_bus_that_isnt_there(emulator: str) -> None:
    """A missing bus is reported, after everything before the rule was made (BATCH-7)."""
    with pytest.raises(AwsError, match=r"the bus nowhere \(which must exist\).*ResourceNotFoundException"):
        run(emulator, bus="nowhere")


@pytest.mark.parametrize(("code", "said"), [
    ("AccessDeniedException", "docs/iam"), ("ExpiredTokenException", "expired or wrong"),
    ("InvalidClientTokenId", "expired or wrong"), ("AWS.SimpleQueueService.QueueDeletedRecently", "in a minute"),
])  # fmt: skip
def test_refusals_say_what_to_do(scripted: ScriptedAws, code: str, said: str) -> None:
    """A missing right, and expired or wrong credentials, are reported with a remedy (BATCH-7)."""
    scripted.script = [lambda _: refusal(code, "no")]
    with pytest.raises(AwsError, match=f"{code}.*{said}"):
        run(scripted.url)


def test_after_three_receives_a_message_is_a_dead_letter(emulator: str) -> None:
    """The queue moves a message that no consumer deletes to the dead letters after three receives (BATCH-7)."""
    found, _, _ = run(emulator)
    sqs = client("sqs", emulator)
    sqs.send_message(QueueUrl=found.queue_url, MessageBody="{}")
    answers = [sqs.receive_message(QueueUrl=found.queue_url, VisibilityTimeout=0) for _ in range(4)]
    assert [len(answer.get("Messages", [])) for answer in answers] == [1, 1, 1, 0]
    assert len(sqs.receive_message(QueueUrl=found.dlq_url)["Messages"]) == 1


def test_the_queue_lets_in_the_rule_that_there_is(emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the rule get another ARN than its name gives, the new queue's policy names the real one (BATCH-7)."""
    monkeypatch.setattr(desired_state, "rule_arn", lambda *_: "arn:aws:events:us-east-1:123456789012:rule/else")
    found, _, _ = run(emulator)
    [statement] = json.loads(attributes(emulator, found.queue_url)["Policy"])["Statement"]
    assert statement["Condition"]["ArnEquals"]["aws:SourceArn"] == found.rule_arn == RULE_ARN


@pytest.mark.parametrize("command", ["setup", "verify"])
def test_the_policies_in_docs_hold_just_what_is_needed(emulator: str, command: str) -> None:
    """The policies under docs/iam allow what the commands and the sink ask for, and nothing else (BATCH-7)."""
    from stenolog.operations.aws.verify import Verify  # noqa: PLC0415

    def allowed(*names: str) -> set[str]:
        pages = [json.loads((ROOT / f"docs/iam/{name}.json").read_text()) for name in names]
        actions = [statement["Action"] for page in pages for statement in page["Statement"]]
        return {action for some in actions for action in ([some] if isinstance(some, str) else some)}

    _, access, _ = run(emulator)
    if command == "setup":
        # SetQueueAttributes: only where the rule's ARN is another than its name gives, which no test can cause.
        assert set(access.actions()) == allowed("setup") - {"sqs:SetQueueAttributes"}
        return
    client("sqs", emulator).send_message(QueueUrl=run(emulator)[0].queue_url, MessageBody="{}")
    watched = Watched(emulator)
    assert Verify(watched, Names(), lambda _: None).run().ok
    asked = {name.removesuffix("Batch") for name in watched.actions()}  # a batch needs the right to the single action
    assert asked == {one for one in allowed("publisher", "consumer") if not one.startswith("s3:")}
