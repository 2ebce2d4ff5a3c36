import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.eventbridge.conftest import KEY_ID, SECRET
from tests.integration.eventbridge.events import client
from tests.integration.eventbridge.scripted import Entries, ScriptedAws, taken
from tests.support.commands import TIMEOUT_S, environment, stenolog
from tests.support.tree import ROOT


def script(name: str, *options: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of scripts/ as a user does."""
    return subprocess.run(
        [ROOT / "scripts" / name, *options], cwd=cwd, env=environment(PYTHON=sys.executable, **variables),
        capture_output=True, timeout=TIMEOUT_S, check=False, text=True,
    )  # fmt: skip


def test_the_scripts_set_up_and_verify(emulator: str, tmp_path: Path) -> None:
    """The script setup_aws prints two URLs and an ARN, and verify_event_flow then succeeds (BATCH-7, BATCH-8)."""
    made = script("setup_aws", "--endpoint-url", emulator, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [
        f"queue: {emulator}/123456789012/meeting-transcripts-queue",
        f"dead-letter queue: {emulator}/123456789012/meeting-transcripts-dlq",
        "rule: arn:aws:events:us-east-1:123456789012:rule/capture-transcripts-rule",
    ]
    tried = script("verify_event_flow", cwd=tmp_path, AWS_ENDPOINT_URL=emulator)
    assert (tried.returncode, tried.stdout[:4]) == (0, "ok: "), tried.stderr
    assert SECRET not in made.stderr + tried.stderr


def test_json_for_machines(emulator: str, tmp_path: Path) -> None:
    """With --json both commands print one object, and settings come from the environment or `.env` (BATCH-7)."""
    (tmp_path / ".env").write_text(f"AWS_ENDPOINT_URL={emulator}\nEVENT_SOURCE=org.example.speech\n")
    options = ["--queue-name", "q", "--json"]
    made = stenolog("aws", "setup", *options, "--dlq-name", "d", "--rule-name", "r", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["created"] == ["d", "q", "r", "r → q"]
    rule = client("events", emulator).describe_rule(Name="r")
    assert json.loads(rule["EventPattern"])["source"] == ["org.example.speech"]
    tried = stenolog("aws", "verify", *options, cwd=tmp_path)
    assert json.loads(tried.stdout)["ok"] is True


@pytest.mark.parametrize(("arguments", "variables", "status", "said"), [
    (["setup", "--queue-name", "q.fifo"], {}, 2, b"no name of a standard queue"),
    (["setup", "--rule-name", "r" * 65], {}, 2, b"no name of a rule"),
    (["verify", "--bus", "a b"], {}, 2, b"no name of an event bus"),
    (["verify", "--nonsense"], {}, 2, b"No such option"),
    (["setup"], {"STENOLOG_PARTITIONS": "none"}, 2, b"STENOLOG_PARTITIONS"),
    (["setup", "--endpoint-url", "http://127.0.0.1:1"], {}, 1, b"Could not connect to the endpoint URL"),
    (["verify", "--endpoint-url", "nowhere"], {}, 1, b"Invalid endpoint: nowhere"),
    (["setup", "--region", "mars north"], {}, 1, b"mars north"),
    (["setup"], {"AWS_PROFILE": "nobody"}, 1, b"nobody"),
    (["verify"], {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 1, b"no AWS credentials found"),
])  # fmt: skip
@pytest.mark.usefixtures("credentials")
def test_mistakes_are_reported_in_a_line(
    arguments: list[str], variables: Mapping[str, str], status: int, said: bytes, tmp_path: Path
) -> None:
    """Wrong usage and settings exit with 2, missing credentials and addresses with 1, without a traceback (BATCH-7)."""
    done = stenolog("aws", *arguments, cwd=tmp_path, variables=variables)
    assert (done.returncode, done.stdout) == (status, b"")
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
    assert KEY_ID.encode() not in done.stderr


def test_an_event_that_cant_be_found_fails(emulator: str, tmp_path: Path) -> None:
    """A queue that isn't there makes the verification exit with 1 (BATCH-8)."""
    done = stenolog("aws", "verify", "--endpoint-url", emulator, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"`stenolog aws setup` makes it" in done.stderr


def test_an_event_that_comes_changed_fails(scripted: ScriptedAws, tmp_path: Path) -> None:
    """An event that comes otherwise than it was sent makes the verification exit with 1, and say how (BATCH-8)."""
    sent: Entries = []

    def put(entries: Entries) -> tuple[int, dict[str, Any]]:
        sent.extend(entries)
        return taken(entries)

    def changed(_: Entries) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"source": "else", "detail": json.loads(sent[0]["Detail"])})
        return 200, {"Messages": [{"MessageId": "1", "ReceiptHandle": "r", "Body": body}]}

    scripted.script = [lambda _: (200, {"QueueUrl": f"{scripted.url}/1/q"}), put, changed, lambda _: (200, {})]
    done = stenolog("aws", "verify", "--json", "--endpoint-url", scripted.url, cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (1, False)
    assert b"error: source is not as sent" in done.stderr
