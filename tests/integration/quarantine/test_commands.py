"""`stenolog quarantine`, as a user sees it, over real workers that a session kills (SAFE-3)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from eventlog.events import RunQuarantined, RunRedriven, UtteranceFinal
from eventlog.log import Code
from eventlog.work.claims import Claims
from tests.integration.decoding.recordings import recording
from tests.integration.decoding.uploads import Upload, ended, sent
from tests.integration.quarantine.poisoned_workers import TTL_S, facts_of, listed, standings
from tests.support.commands import stenolog
from tests.support.deadly_workers import Workers
from tests.support.deployment import PARTITIONS, Deployment
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually_async

DEADLY_LANGUAGE = "tlh"
# Some starts of a worker, each followed by a lease in which it takes over nothing, and trials.
TIMEOUT_S = 120
NEIGHBOURS = 4


@pytest.fixture
def workers(tmp_path: Path, redis_url: str) -> Iterator[Workers]:
    """A worker with that recogniser."""
    found = Workers(redis_url, tmp_path, clip=f"language == {DEADLY_LANGUAGE!r}")
    yield found
    found.stop()


def command(variables: Mapping[str, str], cwd: Path, *words: str, status: int = 0) -> str:
    """The output of `stenolog quarantine`."""
    done = stenolog("quarantine", *words, cwd=cwd, variables=variables)
    assert done.returncode == status, done.stderr
    return done.stdout.decode()


async def test_poisoned_sessions_are_quarantined_and_redriven(
    redis_url: str, workers: Workers, tmp_path: Path
) -> None:
    """SAFE-3: of many sessions those that kill workers are quarantined after one trial each, and complete later."""
    async with Deployment(redis_url) as deployment:
        upload: Upload = await sent(deployment, recording("webm"), language=DEADLY_LANGUAGE)
        others = [
            await deployment.spoken(Story(np.roll(talk(), 4_000 * number, axis=0))) for number in range(NEIGHBOURS)
        ]

        async def look() -> bool:
            workers.look()
            return bool(await listed(deployment.server)) and all([await one.has_ended() for one in others])

        await eventually_async(look, TIMEOUT_S)
        # Three in a row; before them one may have committed what the recording is, which absolves it once.
        assert 3 <= workers.deaths <= 6
        variables = {name: workers.variables[name] for name in ("REDIS_URL", "STENOLOG_PARTITIONS")}
        [shown] = json.loads(command(variables, tmp_path, "list", "--json"))
        assert (shown["session_id"], shown["run"], shown["times"]) == (upload.keys.session_id, "live", 1)
        assert "killing workers" in shown["reason"]
        assert [await one.facts() for one in others] == [one.expected() for one in others]
        workers.upgrade(STENOLOG_ENGINE="mock")
        assert json.loads(command(variables, tmp_path, "redrive", shown["id"], "--json")) == {
            "redriven": 1, "dropped": 0, "absent": 0,
        }  # fmt: skip
        await ended([upload])
        facts = await facts_of(deployment.server, upload.run)
        assert standings(facts) == [RunQuarantined, RunRedriven]
        finals = [fact.utterance for fact in facts if isinstance(fact, UtteranceFinal)]
        assert finals == list(range(len(finals))) != []
        assert await listed(deployment.server) == []


async def test_all_are_failed_by_one_command(redis_url: str, tmp_path: Path) -> None:
    """`fail --all` fails every listed run, and a command without a selection is refused."""
    async with Deployment(redis_url) as deployment:
        sessions = [await deployment.spoken(Story(talk())) for _ in range(2)]
        claims = Claims(deployment.server, "w1", lease_ms=5_000, session_ttl_s=TTL_S)
        await claims.ensure_groups()
        for claim in await claims.take_new(deployment.server.keys.partitions, 100):
            assert await claims.quarantine(claim, "a reason") == Code.OK
        variables = {"REDIS_URL": redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}
        table = command(variables, tmp_path, "list").splitlines()
        assert [session.keys.session_id in str(table) for session in sessions] == [True, True]
        assert "a reason" in table[1]
        assert "1 not there" in command(variables, tmp_path, "redrive", "0:17-0", status=1)
        command(variables, tmp_path, "fail", status=2)
        by_session = command(variables, tmp_path, "fail", sessions[0].keys.session_id)
        assert by_session.strip() == "1 ended as failed"
        assert command(variables, tmp_path, "fail", "--all").strip() == "1 ended as failed"
        assert all([await one.has_ended() for one in sessions])
