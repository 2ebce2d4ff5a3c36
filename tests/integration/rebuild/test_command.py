"""`stenolog rebuild`, as a user sees it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.keys import READ_MODELS
from eventlog.redis.server import Server
from tests.integration.edge.replicas import PARTITIONS as EDGE_PARTITIONS
from tests.integration.edge.replicas import replica
from tests.integration.edge.test_resume import resuming
from tests.integration.projections.facts import a_run, conversation, final, opened, write
from tests.integration.rebuild.conftest import PARTITIONS
from tests.integration.rebuild.read_models import no_leftovers, project, rebuild, remembered
from tests.support.commands import TIMEOUT_S, environment, stenolog
from tests.support.waiting import eventually_async


def variables(server: Server, partitions: int = PARTITIONS) -> dict[str, str]:
    """The environment of commands for it."""
    return {"REDIS_URL": server.url, "STENOLOG_PARTITIONS": str(partitions)}


async def test_a_rebuild_reports_its_result(single: Server, tmp_path: Path) -> None:
    """REPLAY-2: the command rebuilds all runs of a session that is named, and reports runs, events and checksums."""
    runs = [a_run(single) for _ in range(3)]
    runs.append(runs[0].session.run("again"))
    for run in runs:
        await write(single, run, conversation(run, 3))
    await project(single, runs)
    before = await remembered(single)
    named = runs[0].session_id
    done = stenolog("rebuild", "feeds", named, "--verify", "--json", cwd=tmp_path, variables=variables(single))
    assert (done.returncode, done.stderr) == (0, b"")
    printed = json.loads(done.stdout)
    assert (printed["runs"], printed["events"], printed["failed"], printed["differing"]) == (2, 10, [], [])
    assert printed["checksum_before"] == printed["checksum_after"] != "0" * 64
    assert await remembered(single) == before


async def test_a_difference_is_reported(single: Server, tmp_path: Path) -> None:
    """REPLAY-2: without --json lines name the parts that differed from the facts; the exit status is 1."""
    run = a_run(single)
    await write(single, run, conversation(run, 3))
    await project(single, [run])
    await single.execute("RPOP", run.list)
    done = stenolog("rebuild", "lists", "--verify", cwd=tmp_path, variables=variables(single))
    assert done.returncode == 1
    assert f"differed from the facts: {run.member} list" in done.stdout.decode()
    assert "lists: 1 runs with 5 events" in done.stdout.decode()
    assert (await rebuild(single, "lists")).differing == []


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (("lists", "unknown"), 1, "it has no facts"),
    (("kafka",), 2, "see `stenolog dead-letters redrive`"),
])  # fmt: skip
async def test_an_impossible_rebuild_is_an_error(
    single: Server, tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """REPLAY-2: an unknown session fails, and a name of no read model is a mistake of usage."""
    done = stenolog("rebuild", *arguments, cwd=tmp_path, variables=variables(single))
    assert done.returncode == status
    assert words in (done.stdout + done.stderr).decode()


async def test_interrupting_leaves_the_old_one(single: Server, tmp_path: Path) -> None:
    """REPLAY-2: Ctrl-C ends a rebuild with status 130; the old read models are untouched, and no copy is left."""
    runs = [a_run(single) for _ in range(20)]
    for run in runs:
        await write(single, run, [opened(run), *(final(number, "Words. " * 200) for number in range(1000))])
    await project(single, runs, ["lists"])
    before = await remembered(single)
    process = started(tmp_path, **variables(single))

    async def is_at_it() -> bool:
        return await single.execute("EXISTS", *(run.rebuilt("list") for run in runs)) > 0 or process.poll() is not None

    await eventually_async(is_at_it)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode in (0, 130), printed
    assert b"Traceback" not in printed
    assert await no_leftovers(single, *runs)
    assert await remembered(single) == before


def started(cwd: Path, **environ: str) -> subprocess.Popen[bytes]:
    """A rebuild of Lists at work."""
    command = [sys.executable, "-m", "stenolog", "rebuild", "lists"]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(**environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def test_a_feed_of_a_foreign_type_is_mended(redis_url: str) -> None:
    """REPLAY-2, SESS-9: a session whose feed was overwritten can't be resumed until that is rebuilt, then it can."""
    async with replica(redis_url) as edge:
        assert len(edge.core.server.keys.partitions) == EDGE_PARTITIONS
        server = edge.core.server
        async with edge.connect() as client:
            start = await client.next()
        run = server.keys.of(start["session_id"]).run()
        await write(server, run, [final(0)])
        await server.execute("SET", run.feed, "rubbish")
        async with edge.connect(resuming(start)) as client:
            assert (await client.until("error"))["code"] == "internal_error"
        for name in READ_MODELS:
            assert (await rebuild(server, name)).failed == []
        async with edge.connect(resuming(start, "&next_utterance=0")) as client:
            assert (await client.next())["session_id"] == start["session_id"]
            assert (await client.until("final"))["text"] == "words 0."
