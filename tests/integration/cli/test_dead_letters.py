"""`stenolog dead-letters`, as a user sees it."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest

from eventlog.keys import RunKeys
from eventlog.positions import OPENED, SEALED, START, Position
from eventlog.projection.dead_letters import DeadLetter, dead_letter_op, read_redriven
from eventlog.projection.projection_log import Apply, ProjectionLog
from eventlog.redis.server import Server, connect
from projections.integration_events import Kind, event_id
from tests.integration.forwarding.forwarders import PARTITIONS, TTL_S, WAIT_S, forwarding, has_dead_letters, recording
from tests.integration.forwarding.sinks import Recorder
from tests.integration.projections.facts import ended, final, write
from tests.support.commands import stenolog
from tests.support.waiting import eventually_async

WORDS = "unmistakable words"


class Deployment(NamedTuple):
    """One with two dead letters of a recording: the sink's, of its end, and lists', of a fact."""

    url: str
    keys: RunKeys

    @property
    def variables(self) -> dict[str, str]:
        """The environment of commands for it."""
        return {"REDIS_URL": self.url, "STENOLOG_PARTITIONS": str(PARTITIONS)}

    @property
    def event_id(self) -> str:
        """Id of the event that the sink did not get."""
        return event_id(self.keys, SEALED, Kind.BATCH_COMPLETED)


async def _filled(url: str) -> RunKeys:
    server = await connect(url, partitions=PARTITIONS)
    keys = server.keys.of(str(uuid.uuid4())).run()
    await write(server, keys, [recording(keys), final(0, WORDS), ended(1)])
    dead_letter = DeadLetter(
        "webhooks", keys.partition, "", keys, str(SEALED), "[red]too large[/red]", "c1", Kind.BATCH_COMPLETED.value,
        event_id(keys, SEALED, Kind.BATCH_COMPLETED), 7, 1_700_000_000_000,
    )  # fmt: skip
    sink = ProjectionLog(server, "webhooks", "c1", session_ttl_s=TTL_S)
    await sink.apply([Apply(keys, START, SEALED, [dead_letter_op(dead_letter)])])
    lists = ProjectionLog(server, "lists", "c1", session_ttl_s=TTL_S)
    await lists.apply([Apply(keys, START, OPENED, [lists.dead_letter(keys, Position(1, 0), "KeyError")])])
    await server.close()
    return keys


@pytest.fixture
def deployment(redis_url: str) -> Deployment:
    """See `Deployment`."""
    return Deployment(redis_url, asyncio.run(_filled(redis_url)))


def listed(deployment: Deployment, cwd: Path, *arguments: str) -> list[dict[str, object]]:
    """The letters that a command prints."""
    done = stenolog("dead-letters", "list", "--json", *arguments, cwd=cwd, variables=deployment.variables)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_dead_letters_are_listed_without_transcripts(deployment: Deployment, tmp_path: Path) -> None:
    """Letters of all projections or of one are listed, oldest first, by ids of their own and without text (BATCH-6)."""
    everything = listed(deployment, tmp_path)
    assert [one["projection"] for one in everything] == ["webhooks", "lists"]
    assert len({one["id"] for one in everything}) == 2
    [dead_letter] = listed(deployment, tmp_path, "webhooks")
    assert (dead_letter["event_id"], dead_letter["attempts"], dead_letter["kind"]) == (
        deployment.event_id, 7, "BatchProcessingCompleted",
    )  # fmt: skip
    assert listed(deployment, tmp_path, "kafka") == []
    assert len(listed(deployment, tmp_path, "--limit", "1")) == 1
    assert WORDS not in str(everything)


def test_the_table_shows_reasons_unchanged(deployment: Deployment, tmp_path: Path) -> None:
    """The table has a row a letter, plain where it is piped, and takes no reason for markup."""
    done = stenolog("dead-letters", "list", cwd=tmp_path, variables=deployment.variables)
    head, *rows = done.stdout.decode().splitlines()
    assert head.split()[0] == "id"
    assert "[red]too large[/red]" in rows[0]
    assert deployment.keys.session_id in rows[1]
    assert b"\x1b[" not in done.stdout


def test_one_is_shown_and_its_event_only_on_request(deployment: Deployment, tmp_path: Path) -> None:
    """A letter is shown as lines or JSON, and its event, made again from the facts, on demand alone (BATCH-9)."""
    [dead_letter] = listed(deployment, tmp_path, "webhooks")

    def shown(*options: str) -> bytes:
        done = stenolog(
            "dead-letters", "show", str(dead_letter["id"]), *options, cwd=tmp_path, variables=deployment.variables
        )
        assert done.returncode == 0, done.stderr
        assert WORDS.encode() not in done.stderr
        return done.stdout

    assert b"reason: [red]too large[/red]" in shown()
    assert json.loads(shown("--json")) == dead_letter
    assert WORDS.encode() not in shown() + shown("--json")
    body = json.loads(shown("--body"))
    assert body["interaction_id"] == deployment.keys.session_id
    assert body["data"]["raw_transcript"] == WORDS


def test_what_is_redriven_waits_for_its_forwarder(deployment: Deployment, tmp_path: Path) -> None:
    """A redriven letter leaves the list and waits to be sent; a missing one gives status 1 (BATCH-6)."""
    [dead_letter] = listed(deployment, tmp_path, "webhooks")
    arguments = ("dead-letters", "redrive", "webhooks", "--json", str(dead_letter["id"]))
    done = stenolog(*arguments, cwd=tmp_path, variables=deployment.variables)
    assert (done.returncode, json.loads(done.stdout)["redriven"]) == (0, 1)
    assert listed(deployment, tmp_path, "webhooks") == []

    async def waiting() -> list[str]:
        server = await connect(deployment.url, partitions=PARTITIONS)
        found = await read_redriven(server, "webhooks", server.keys.partitions, 10)
        await server.close()
        return [one.event_id for one in found]

    assert asyncio.run(waiting()) == [deployment.event_id]
    done = stenolog(*arguments, cwd=tmp_path, variables=deployment.variables)
    assert (done.returncode, json.loads(done.stdout)["absent"]) == (1, 1)


async def test_all_are_redriven_and_sent(redis_url: str, tmp_path: Path) -> None:
    """With --all every letter of a sink is sent again by its forwarder (BATCH-6)."""
    keys = await _filled(redis_url)
    server = await connect(redis_url, partitions=PARTITIONS)
    sink = Recorder()
    async with forwarding(server, sink):
        done = await asyncio.to_thread(
            stenolog, "dead-letters", "redrive", "webhooks", "--all", cwd=tmp_path,
            variables=Deployment(redis_url, keys).variables,
        )  # fmt: skip
        assert (done.returncode, done.stdout.decode()) == (0, "1 of webhooks will be sent again\n")
        await eventually_async(lambda: _is_sent(server, sink, keys), WAIT_S)
    await server.close()


async def _is_sent(server: Server, sink: Recorder, keys: RunKeys) -> bool:
    assert event_id(keys, SEALED, Kind.BATCH_COMPLETED) in sink.ids
    return await has_dead_letters(server, 0)


def test_dead_letters_without_facts_are_dropped_and_counted(deployment: Deployment, tmp_path: Path) -> None:
    """A letter whose facts have expired has no event any more, and is dropped when it is redriven (STITCH-5)."""
    [dead_letter] = listed(deployment, tmp_path, "webhooks")

    async def expire() -> None:
        server = await connect(deployment.url, partitions=PARTITIONS)
        await server.execute("DEL", deployment.keys.transcript)
        await server.close()

    asyncio.run(expire())
    done = stenolog(
        "dead-letters", "show", str(dead_letter["id"]), "--body", cwd=tmp_path, variables=deployment.variables
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert "its facts are gone" in done.stderr.decode()
    done = stenolog("dead-letters", "redrive", "webhooks", "--all", cwd=tmp_path, variables=deployment.variables)
    assert done.returncode == 0
    assert "1 dropped: their facts are gone, expired or erased" in done.stdout.decode()
    assert listed(deployment, tmp_path, "webhooks") == []


@pytest.mark.parametrize(("arguments", "status", "message"), [
    (("redrive", "lists", "--all"), 2, "stenolog rebuild lists"),
    (("redrive", "webhooks"), 2, "give --all"),
    (("redrive", "webhooks", "eventbridge:1:1-1"), 2, "is no dead letter's id"),
    (("list", "lambdas"), 2, "no projection lambdas exists"),
    (("show", "webhooks:1:1-1"), 1, "no dead letter webhooks"),
    (("show", "webhooks:99999:1-1"), 1, "no dead letter webhooks"),
    (("show", "1-1"), 2, "is no dead letter's id"),
    (("show", f"webhooks:1:{2**70}-1"), 2, "is no dead letter's id"),
])  # fmt: skip
def test_mistakes_are_reported_in_a_line(
    deployment: Deployment, arguments: tuple[str, ...], status: int, message: str, tmp_path: Path
) -> None:
    """A mistake is reported in a line, with status 1 for a missing letter and 2 for wrong usage."""
    done = stenolog("dead-letters", *arguments, cwd=tmp_path, variables=deployment.variables)
    assert (done.returncode, done.stdout) == (status, b"")
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
