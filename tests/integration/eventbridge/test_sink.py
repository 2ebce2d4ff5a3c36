import asyncio
import hashlib
import json
import logging
import subprocess
import sys
import uuid

import msgspec
import pytest

from eventlog.positions import Position
from projections.eventbridge import client as client_module
from projections.eventbridge.bodies import find_fault
from projections.forwarding.sink import SENT, Outcome
from projections.integration_events import Kind
from tests.integration.eventbridge.events import (
    SAID,
    SETTINGS,
    client,
    completed,
    failed,
    provisioned,
    received,
    started,
)
from tests.integration.eventbridge.scripted import ScriptedAws, refusal, results, taken
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

RETRY, REJECTED, SKIPPED = Outcome.RETRY, Outcome.REJECTED, Outcome.SKIPPED


async def test_events_come_through_rule_and_queue(emulator: str) -> None:
    """A finished recording reaches the queue by bus and rule, with source and detail-type as set (BATCH-5)."""
    found = provisioned(emulator, source="org.example.speech")
    sent = completed()
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=emulator, source="org.example.speech")
    async with started(settings) as sink:
        assert await sink.send([sent, failed()]) == [SENT, SENT]
    [event] = received(emulator, found.queue_url)
    assert (event["source"], event["detail-type"]) == ("org.example.speech", "BatchProcessingCompleted")
    assert event["detail"] == sent.body
    assert event["detail"]["data"]["raw_transcript"] == SAID
    assert event["resources"] == [f"urn:uuid:{sent.event_id}"]
    assert event["time"] == "2023-11-14T22:15:00Z"


async def test_an_own_bus_in_another_region(emulator: str) -> None:
    """Events go to the bus and region of the settings (BATCH-5)."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415

    events = boto3.client("events", region_name="eu-central-1", endpoint_url=emulator)
    events.create_event_bus(Name="speech")
    sqs = boto3.client("sqs", region_name="eu-central-1", endpoint_url=emulator)
    queue_url = sqs.create_queue(QueueName="q")["QueueUrl"]
    events.put_rule(Name="all", EventBusName="speech", EventPattern='{"source": ["com.yourapp.transcription"]}')
    events.put_targets(Rule="all", EventBusName="speech", Targets=[
        {"Id": "q", "Arn": "arn:aws:sqs:eu-central-1:123456789012:q"},
    ])  # fmt: skip
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=emulator, region="eu-central-1", bus_name="speech")
    async with started(settings) as sink:
        assert await sink.send([failed()]) == [SENT]
    [message] = sqs.receive_message(QueueUrl=queue_url)["Messages"]
    assert json.loads(message["Body"])["detail-type"] == "BatchProcessingFailed"


async def test_without_credentials_forwarding_is_off(caplog: pytest.LogCaptureFixture) -> None:
    """Without credentials one warning comes at start, and one for each event that is not forwarded (BATCH-5)."""
    caplog.set_level(logging.INFO)
    async with started(SETTINGS) as sink:
        for _ in range(2):
            assert [one.outcome for one in await sink.send([completed(), completed()])] == [SKIPPED, SKIPPED]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().partition(":")[0] for record in warnings] == [
        "no AWS credentials", *["event not forwarded"] * 4,
    ]
    assert {vars(record)["raw_transcript_characters"] for record in warnings[1:]} == {len(SAID)}
    assert SAID not in caplog.text


async def test_credentials_that_come_later_are_found(
    emulator: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forwarding begins without a restart once credentials exist (BATCH-5)."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=emulator, relook_s=0.0)
    async with started(settings) as sink:
        assert [one.outcome for one in await sink.send([completed()])] == [SKIPPED]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")

        async def is_sent() -> bool:
            return await sink.send([completed()]) == [SENT]

        await eventually_async(is_sent)  # boto3's look for credentials takes longer on a busy machine than a send waits


async def test_credentials_that_are_configured_but_cant_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the configured credentials don't work, events wait until an operator fixes them (BATCH-6)."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    async with started(SETTINGS) as sink:
        [result] = await sink.send([completed()])
    assert result == (RETRY, "AWS: ProfileNotFound")


async def test_a_slow_look_up_holds_up_no_call(scripted: ScriptedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the source of credentials doesn't answer, start and send return, and events wait (BATCH-5)."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    scripted.silent.set()
    # botocore asks such an address by GET, which this server never answers either: it knows POST alone.
    scripted.RequestHandlerClass.do_GET = scripted.RequestHandlerClass.do_POST  # type: ignore[attr-defined]
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{scripted.url}/credentials")
    async with started(msgspec.structs.replace(SETTINGS, lookup_s=0.05)) as sink:
        [result] = await sink.send([completed()])
    assert result == (RETRY, "AWS credentials are still being looked for")


@pytest.mark.parametrize(("code", "outcome"), [
    ("ThrottlingException", RETRY), ("InternalFailure", RETRY), ("InternalException", RETRY),
    ("AccessDeniedException", RETRY), ("NotAuthorizedForSourceException", RETRY),
    ("NotAuthorizedForDetailTypeException", RETRY), ("InvalidAccountIdException", RETRY), ("RedactionFailure", RETRY),
    ("SomethingNew", RETRY), ("MalformedDetail", REJECTED), ("InvalidArgument", REJECTED),
])  # fmt: skip
async def test_entries_fail_apart(scripted: ScriptedAws, code: str, outcome: Outcome) -> None:
    """Of a partly failed request only the entries that failed come again, or never if that can't help (BATCH-6)."""
    ok, no = {"EventId": "1"}, {"ErrorCode": code, "ErrorMessage": "as it is"}
    scripted.script = [lambda _: results([ok, no, ok])]
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        answers = await sink.send([completed(), completed(), completed()])
    assert answers == [SENT, (outcome, f"EventBridge: {code}"), SENT]
    assert [len(request) for request in scripted.requests] == [3]


@pytest.mark.parametrize(("code", "status"), [
    ("ThrottlingException", 400), ("InternalException", 500), ("AccessDeniedException", 400),
    ("ExpiredTokenException", 400), ("ResourceNotFoundException", 400), ("ServiceUnavailable", 503),
])  # fmt: skip
async def test_requests_that_fail_come_again(scripted: ScriptedAws, code: str, status: int) -> None:
    """A throttled or refused request is made once, and all of its events come again later (BATCH-6)."""
    scripted.script = [lambda _: refusal(code, status=status)]
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        assert await sink.send([completed(), completed()]) == [(RETRY, f"EventBridge: {code}")] * 2
        assert len(scripted.requests) == 1
        assert await sink.send([completed()]) == [SENT]


@pytest.mark.parametrize("answer", [{}, {"Entries": "none"}, {"Entries": []}, {"Entries": [{}]}])
async def test_answers_that_make_no_sense(scripted: ScriptedAws, answer: dict[str, object]) -> None:
    """An event counts as taken only where the answer says so, whatever else it says (BATCH-6)."""
    scripted.script = [lambda _: (200, answer)]
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        assert [one.outcome for one in await sink.send([completed(), completed()])] == [RETRY, RETRY]


async def test_a_request_that_is_never_answered(scripted: ScriptedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that isn't answered in time, and an address without a server, end in another try (BATCH-6)."""
    monkeypatch.setattr(client_module, "READ_S", 0.2)
    scripted.silent.set()
    async with asyncio.timeout(30), started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        assert await sink.send([completed()]) == [(RETRY, "EventBridge: ReadTimeoutError")]
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url="http://127.0.0.1:1")) as sink:
        assert await sink.send([completed()]) == [(RETRY, "EventBridge: EndpointConnectionError")]


async def test_the_entry_to_blame_is_singled_out(scripted: ScriptedAws) -> None:
    """Where one entry makes the whole request invalid, the others are taken and that one never (BATCH-6)."""
    events = [completed() for _ in range(7)]

    def picky(entries: list[dict[str, str]]) -> tuple[int, dict[str, object]]:
        bad = any(events[4].session_id in entry["Detail"] for entry in entries)
        return refusal("ValidationException", "Value '[...]' failed") if bad else taken(entries)

    scripted.script = [picky] * 20
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        answers = await sink.send(events)
    assert answers == [*[SENT] * 4, (REJECTED, "EventBridge: ValidationException"), SENT, SENT]


async def test_events_of_a_session_keep_their_order(scripted: ScriptedAws) -> None:
    """After an event that wasn't taken, later ones of its session wait, while those of others continue (BATCH-6)."""
    session_id = str(uuid.uuid4())
    first, second = (completed(session_id=session_id, position=Position(number, 0)) for number in (1, 2))
    scripted.script = [lambda _: results([{"ErrorCode": "ThrottlingException"}, {"EventId": "2"}])]
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        answers = await sink.send([first, completed(), second, completed()])
        assert [one.outcome for one in answers] == [RETRY, Outcome.SENT, RETRY, Outcome.SENT]
        assert [len(request) for request in scripted.requests] == [2, 1]
        assert await sink.send([first, second]) == [SENT, SENT]
    assert [len(request) for request in scripted.requests] == [2, 1, 1, 1]


async def test_an_invalid_body_is_never_sent(scripted: ScriptedAws) -> None:
    """A body that breaks its schema isn't sent, and the reason names the field without its content (BATCH-4)."""
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        answers = await sink.send([completed(tenant_id="a cme"), completed()])
    assert answers == [(REJECTED, "the body breaks its schema at $.tenant_id"), SENT]
    assert [len(request) for request in scripted.requests] == [1]


@pytest.mark.parametrize("encryption", ["AES256", "bucket"])
async def test_long_transcripts_go_by_reference(emulator: str, encryption: client_module.Encryption) -> None:
    """A body above the limit is stored as an object, encrypted, and the event refers to it (BATCH-6)."""
    found, s3 = provisioned(emulator), client("s3", emulator)
    s3.create_bucket(Bucket="transcripts")
    sent, short = completed("word " * 3000, tenant_id="acme/north"), completed()
    settings = msgspec.structs.replace(
        SETTINGS, endpoint_url=emulator, bucket="transcripts", max_bytes=10_000, encryption=encryption
    )
    async with started(settings) as sink:
        assert await sink.send([sent, short]) == [SENT, SENT]
        assert await sink.send([sent]) == [SENT]
    first, _, again = received(emulator, found.queue_url)
    assert first["detail"] == again["detail"]
    assert find_fault(Kind.BATCH_COMPLETED, first["detail"]) == ""
    reference = first["detail"]["data"]["reference"]
    assert reference["key"] == f"stenolog/acme%2Fnorth/{sent.session_id}/{sent.event_id}.json"
    stored = s3.get_object(Bucket=reference["bucket"], Key=reference["key"])
    content = stored["Body"].read()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (reference["bytes"], reference["sha256"])
    assert json.loads(content) == sent.body
    asked = None if encryption == "bucket" else encryption
    assert (stored["ContentType"], stored.get("ServerSideEncryption")) == ("application/json", asked)
    assert len(s3.list_objects_v2(Bucket="transcripts")["Contents"]) == 1


async def test_long_transcripts_without_a_bucket(emulator: str) -> None:
    """Above the limit, without a bucket nothing is sent, and with a missing one it is tried again (BATCH-6)."""
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=emulator, max_bytes=10_000)
    async with started(settings) as sink:
        [result] = await sink.send([completed("word " * 3000)])
        assert result == (REJECTED, "the event is above EventBridge's size limit, and no bucket is set for such")
    async with started(msgspec.structs.replace(settings, bucket="nowhere")) as sink:
        assert await sink.send([completed("word " * 3000)]) == [(RETRY, "S3: NoSuchBucket")]


async def test_words_are_left_out_before_an_event_is_too_large(emulator: str) -> None:
    """Words that make an event too large are left out; with a bucket they stand in the object (WORD-3)."""
    found, s3 = provisioned(emulator), client("s3", emulator)
    s3.create_bucket(Bucket="transcripts")
    small, large = completed("word " * 20, words=True), completed("word " * 300, words=True)
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=emulator, max_bytes=10_000)
    async with started(settings) as sink:
        assert await sink.send([small, large]) == [SENT, SENT]
    async with started(msgspec.structs.replace(settings, bucket="transcripts")) as sink:
        assert await sink.send([large]) == [SENT]
    *inline, referring = [one["detail"]["data"] for one in received(emulator, found.queue_url)]
    assert sorted(len(data.get("words", ())) for data in inline) == [0, 20]
    stored = s3.get_object(Bucket="transcripts", Key=referring["reference"]["key"])["Body"].read()
    assert json.loads(stored) == large.body
    assert len(large.body["data"]["words"]) == 300


async def test_large_events_go_in_several_requests(scripted: ScriptedAws) -> None:
    """A request holds no more bytes than the service takes in all (BATCH-6)."""
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url, max_bytes=20_000)
    async with started(settings) as sink:
        assert await sink.send([completed("word " * 800) for _ in range(5)]) == [SENT] * 5
    assert [len(request) for request in scripted.requests] == [2, 2, 1]


async def test_stopping_is_safe_at_any_time(scripted: ScriptedAws) -> None:
    """A sink may be stopped before its start, twice and during a look-up, and sends nothing afterwards."""
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        await sink.stop()
        await sink.stop()
        assert [one.outcome for one in await sink.send([completed()])] == [RETRY]
    assert scripted.requests == []


def test_nothing_pays_for_the_sdk_but_its_user() -> None:
    """The SDK is loaded when the sink connects, not with the module, the projections or the command line (BATCH-5)."""
    code = (
        "import sys, projections.eventbridge, stenolog.roles.projector, stenolog.cli;"
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
