import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stenolog.logs import JsonFormatter
from tests.integration.eventbridge.conftest import KEY_ID, SECRET, TOKEN
from tests.integration.eventbridge.events import SAID, SETTINGS, client, completed, provisioned, started
from tests.integration.eventbridge.scripted import Entries, ScriptedAws, refusal, results

NEVER_LOGGED = ("quick", "brown", "jumps", "lazy", KEY_ID, SECRET, TOKEN)
assert all(word in SAID for word in NEVER_LOGGED[:4])


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, object]]]:
    """The records logged at debug level, as roles write them, once the list is asked for again."""
    caplog.set_level(logging.DEBUG)
    formatter, found = JsonFormatter("projector"), list[dict[str, object]]()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(formatter.format(record)))

    collector = Collector()
    logging.getLogger().addHandler(collector)
    yield found
    logging.getLogger().removeHandler(collector)


@pytest.fixture
def odd_profile() -> None:
    """A profile whose credentials come from a program that fails and says too much."""
    config = f"[profile odd]\ncredential_process = sh -c 'echo {SECRET} >&2; exit 1'\n"
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(config, encoding="utf-8")


def ours(lines: list[dict[str, object]], event: str) -> list[dict[str, object]]:
    """The lines of that event, once no line holds a secret or a text."""
    text = json.dumps(lines, ensure_ascii=False)
    assert [word for word in NEVER_LOGGED if word in text] == []
    return [line for line in lines if line["event"] == event]


async def test_forwarded_events_are_logged_by_ids_and_lengths(emulator: str, lines: list[dict[str, object]]) -> None:
    """Logs name interaction, event, source, detail-type and length of a sent event, and no word of it (BATCH-9)."""
    provisioned(emulator)
    client("s3", emulator).create_bucket(Bucket="transcripts")
    short, long = completed(), completed(f"{SAID} " * 400)
    settings = msgspec.structs.replace(SETTINGS, endpoint_url=emulator, bucket="transcripts", max_bytes=10_000)
    lines.clear()
    async with started(settings) as sink:
        await sink.send([short, long])
    sent = ours(lines, "event forwarded")
    assert [(line["interaction_id"], line["event_id"], line["source"], line["detail_type"]) for line in sent] == [
        (one.session_id, one.event_id, settings.source, "BatchProcessingCompleted") for one in (short, long)
    ]
    assert sent[0]["detail_bytes"] == len(msgspec.json.encode(short.body))
    [stored] = ours(lines, "event stored in S3")
    assert stored["object_bytes"] == len(msgspec.json.encode(long.body))


async def test_the_echo_of_the_service_is_not_logged(scripted: ScriptedAws, lines: list[dict[str, object]]) -> None:
    """Failures are logged by type, message and stack, without values, keys and secrets that are quoted (BATCH-9)."""
    def echo(entries: Entries) -> str:
        values = f"Value '{SAID} {entries}' of user {KEY_ID}\nx-amz-security-token:{TOKEN} {SECRET}"
        return f"1 validation error for {KEY_ID} {SECRET} {TOKEN}: {values} {entries[0]['Detail']}"

    scripted.script = [
        lambda entries: refusal("ThrottlingException", echo(entries)),
        lambda entries: refusal("ValidationException", echo(entries)),
        lambda entries: results([{"ErrorCode": "InternalFailure", "ErrorMessage": echo(entries)}]),
        lambda entries: results([{"ErrorCode": echo(entries), "ErrorMessage": "as above"}]),
    ]
    event = completed()
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        answers = [(await sink.send([event]))[0] for _ in range(4)]
    assert [result.reason for result in answers] == [
        "EventBridge: ThrottlingException", "EventBridge: ValidationException", "EventBridge: InternalFailure",
        "EventBridge: an unknown code",
    ]
    throttled, invalid = ours(lines, "EventBridge did not take a request")
    assert (throttled["error_type"], invalid["error_type"]) == ("ThrottlingException", "ValidationException")
    assert str(throttled["error"]).startswith("1 validation error for …")
    assert "put_events" in str(throttled["stack"])
    assert throttled["interaction_id"] == event.session_id
    assert [line["reason"] for line in ours(lines, "event not forwarded")] == [
        "EventBridge: InternalFailure", "EventBridge: an unknown code",
    ]


async def test_a_source_of_credentials_is_not_quoted(
    lines: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, odd_profile: None,
) -> None:
    """The message of a source of credentials that fails is not logged, since it may be a secret (BATCH-9)."""
    assert odd_profile is None
    monkeypatch.setenv("AWS_PROFILE", "odd")
    async with started(SETTINGS) as sink:
        [result] = await sink.send([completed()])
    assert result.reason == "AWS: CredentialRetrievalError"
    [line] = ours(lines, "AWS credentials unusable; retrying")
    assert line["error"] == "asking custom-process for credentials failed"


async def test_rejections_are_logged_by_their_place(lines: list[dict[str, object]], scripted: ScriptedAws) -> None:
    """An event that can't be forwarded is logged with its ids, lengths and reason (BATCH-9)."""
    event = completed(tenant_id="a cme")
    async with started(msgspec.structs.replace(SETTINGS, endpoint_url=scripted.url)) as sink:
        await sink.send([event])
    [line] = ours(lines, "event rejected")
    assert (line["level"], line["reason"]) == ("error", "the body breaks its schema at $.tenant_id")
    assert (line["event_id"], line["raw_transcript_characters"]) == (event.event_id, len(SAID))
