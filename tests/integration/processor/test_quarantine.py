"""Runs that can't be processed, and runs that kill their workers (SAFE-3)."""

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eventlog.log import AudioEntry, Claim, LogUnavailableError
from eventlog.positions import Position
from processor.quarantine_trial import claim_arguments, command_trial, parse_claim
from processor.recognisers import Clip, RecogniserError, Recognition
from processor.recognisers.mock import MockRecogniser
from tests.support.deployment import Deployment, Session, abandon, held
from tests.support.pcm import Story, talk
from tests.support.tree import ROOT
from tests.support.waiting import eventually_async

LEASE_MS = 150

# What `stenolog` runs in a process of its own for a suspect: the claim's arguments come last.
ALONE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from eventlog.redis.server import connect
from processor.recognisers import load
from processor.settings import WorkerSettings
from processor.quarantine_trial import parse_claim, run_trial

async def main():
    server = await connect(sys.argv[2], partitions=int(sys.argv[3]))
    try:
        claim = parse_claim(server, sys.argv[4:])
        return await run_trial(server, WorkerSettings(session_ttl_s=1000), load("mock"), claim)
    finally:
        await server.close()

sys.exit(0 if asyncio.run(main()) else 1)
"""


async def quarantined(session: Session, deployment: Deployment) -> list[dict[str, str]]:
    """The quarantined runs of a session's partition."""
    entries = await deployment.server.execute("XRANGE", session.keys.partition.quarantined, "-", "+")
    texts = [[part.decode() for part in fields] for _, fields in entries]
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in texts]


@pytest.mark.parametrize("event", [b"not an event", b'{"event":"unheard_of.v9"}'])
async def test_an_undecodable_event_quarantines_the_session(deployment: Deployment, event: bytes) -> None:
    """A run with an undecodable event is quarantined with the reason, and its neighbours continue."""
    story = Story(talk())
    poisoned, well = await deployment.open(story), await deployment.spoken(story)
    end = poisoned.entries[9].position
    await poisoned.say([*poisoned.entries[:10], AudioEntry(end.control(), None, event, 0)])
    worker = await deployment.started()
    await deployment.ended(well)
    [noted] = await eventually_async(lambda: quarantined(poisoned, deployment))
    assert noted["run"] == poisoned.run.member
    assert noted["consumer"] == worker.consumer
    assert f"entry {end.control()}" in noted["reason"]
    assert await well.facts() == well.expected()
    assert poisoned.run.member not in await poisoned.hash(poisoned.keys.partition.entries)
    await held(worker, 0)
    pending = await deployment.server.execute("XPENDING", poisoned.keys.partition.sessions, "processor")
    assert pending[0] == 0


async def test_settings_of_another_build_quarantine_the_session(deployment: Deployment) -> None:
    """A session pinned to settings that this build doesn't have is quarantined, and a session beside it continues."""
    session = await deployment.open(Story(talk(), segmenter={"version": 999}))
    well = await deployment.spoken(Story(talk()))
    await deployment.started()
    await deployment.ended(well)
    [noted] = await eventually_async(lambda: quarantined(session, deployment))
    assert "version" in noted["reason"]


class PickyRecogniser(MockRecogniser):
    """Fails permanently on one rate."""

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Refuse telephone speech."""
        if any(clip.sample_rate_hz == 8_000 for clip in clips):
            raise RecogniserError("can't take this rate", retryable=False)
        return super().recognise(clips)


async def test_a_clip_that_no_retry_fixes_quarantines_the_session(deployment: Deployment) -> None:
    """A run whose audio a recogniser refuses permanently is quarantined; other clips of its batches are recognised."""
    refused, well = await deployment.spoken(Story(talk(8_000), 8_000)), await deployment.spoken(Story(talk()))
    await deployment.started(PickyRecogniser())
    await deployment.ended(well)
    [noted] = await eventually_async(lambda: quarantined(refused, deployment))
    assert "can't take this rate" in noted["reason"]
    assert await well.facts() == well.expected()


async def die_over(deployment: Deployment, session: Session, deaths: int) -> None:
    """Let workers take a session and die before any commit."""
    for death in range(deaths):
        doomed = await deployment.worker(lease_ms=LEASE_MS)
        doomed._committer.run = held_back  # type: ignore[method-assign]
        await doomed.start()
        await held(doomed, 1, hurried=True)
        assert doomed.active_runs.claims[0].deliveries == death + 1
        await abandon(doomed)
    assert (await session.checkpoint()).get("suspicion", "0") == str(max(0, deaths - 1))


async def held_back() -> None:
    """A committer that never gets to it."""


async def test_a_suspect_is_tried_alone_and_handed_over_if_it_lives(single: Deployment) -> None:
    """After three deaths without a commit a run is tried in its own process, and continues if it lives (SAFE-3)."""
    session = await single.spoken(Story(talk()))
    await die_over(single, session, 3)
    trials: list[Claim] = []
    command = [sys.executable, "-c", ALONE, str(ROOT), single.url, str(len(single.server.keys.partitions))]
    alone = command_trial(command, timeout_s=20)

    async def noted(claim: Claim) -> bool:
        trials.append(claim)
        return await alone(claim)

    worker = await single.started(lease_ms=LEASE_MS, trial=noted)
    await single.ended(session, hurried=worker)
    assert [one.deliveries for one in trials] == [4]
    assert await session.facts() == session.expected()
    assert await quarantined(session, single) == []


async def test_a_suspect_that_dies_alone_is_quarantined(single: Deployment) -> None:
    """A run that kills a process of its own, too, is quarantined with its reason, and others continue (SAFE-3)."""
    session = await single.spoken(Story(talk()))
    await die_over(single, session, 3)
    well = await single.spoken(Story(np.roll(talk(), 8_000, axis=0)))
    command = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {signal.SIGKILL:d})"]
    suicide = command_trial(command, timeout_s=20)
    worker = await single.started(lease_ms=LEASE_MS, trial=suicide)

    async def look() -> list[dict[str, str]]:
        worker._keeper.wake()
        return await quarantined(session, single)

    [noted] = await eventually_async(look)
    assert noted["run"] == session.run.member
    assert "killing" in noted["reason"]
    await single.ended(well)
    assert await well.facts() == well.expected()
    assert await session.finals() == 0


async def test_two_deaths_are_no_suspicion_yet(single: Deployment) -> None:
    """A run whose holders died twice continues in an ordinary worker."""
    session = await single.spoken(Story(talk()))
    await die_over(single, session, 2)
    await single.ended(session, hurried=await single.started(lease_ms=LEASE_MS))
    assert await session.facts() == session.expected()


async def test_a_trial_that_hangs_counts_as_death(single: Deployment) -> None:
    """A trial that doesn't end in time is killed and judged as failed."""
    hanging = command_trial([sys.executable, "-c", "import threading; threading.Event().wait()"], timeout_s=0.1)
    assert await hanging(a_claim(single)) is False


@pytest.mark.parametrize(("code", "lived"), [(0, True), (1, False)])
async def test_a_trial_is_judged_by_its_exit_code(single: Deployment, code: int, lived: bool) -> None:  # noqa: FBT001
    """A process that ends well says that the run lived in it."""
    assert await command_trial([sys.executable, "-c", f"raise SystemExit({code})"], 20)(a_claim(single)) is lived


@pytest.mark.parametrize(
    "command", [["/nonexistent/command"], [sys.executable, "-c", "raise SystemExit(2)"]], ids=["missing", "unable"]
)
async def test_a_trial_that_cannot_be_made_quarantines_no_run(single: Deployment, command: list[str]) -> None:
    """When no process can be started, or it refuses its settings, a suspect is neither quarantined nor lost."""
    session = await single.spoken(Story(talk()))
    await die_over(single, session, 3)
    well = await single.spoken(Story(np.roll(talk(), 8_000, axis=0)))
    alone, tries = command_trial(command, timeout_s=20), list[float]()

    async def counted(claim: Claim) -> bool:
        tries.append(time.monotonic())
        return await alone(claim)

    worker = await single.started(lease_ms=LEASE_MS, trial=counted)

    def look() -> bool:
        worker._keeper.wake()
        return len(tries) == 3

    await eventually_async(look)
    pauses_s = [after - before for before, after in itertools.pairwise(tries)]
    assert min(pauses_s) >= LEASE_MS / 1000, "not in a tight loop, though wake-ups came all the time"
    await single.ended(well)
    assert await quarantined(session, single) == []
    assert session.run.member in await session.hash(session.keys.partition.entries)


async def test_a_suspect_that_waits_for_its_speaker_is_tried_once(single: Deployment) -> None:
    """A run that lived alone without a commit, without speech, continues in an ordinary worker (SAFE-3)."""
    session = await single.open(Story(talk()))
    await die_over(single, session, 3)
    trials: list[Claim] = []

    async def quiet(claim: Claim) -> bool:
        trials.append(claim)
        return True

    worker = await single.started(lease_ms=LEASE_MS, trial=quiet)
    await held(worker, 1, hurried=True)
    await session.say()
    await single.ended(session, hurried=worker)
    assert len(trials) == 1
    assert await session.facts() == session.expected()


async def test_a_defect_in_a_trial_is_logged(single: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a trial fails with is in the log with its traceback, and the suspect is tried again after a lease."""
    session = await single.spoken(Story(talk()))
    await die_over(single, session, 3)
    failures = [ZeroDivisionError("a defect")]

    async def faulty(claim: Claim) -> bool:
        if failures:
            raise failures.pop()
        return claim.consumer != ""

    worker = await single.started(lease_ms=LEASE_MS, trial=faulty)
    await single.ended(session, hurried=worker)
    [record] = [one for one in caplog.records if one.name == "processor.quarantine" and one.levelname == "ERROR"]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert await quarantined(session, single) == []


async def test_a_trial_that_failed_while_redis_was_away_quarantines_no_run(single: Deployment) -> None:
    """A trial during which the claim could not be renewed does not count: it is repeated, and the run continues."""
    session = await single.spoken(Story(talk()))
    await die_over(single, session, 3)
    away, trials = asyncio.Event(), list[Claim]()

    async def outcome(claim: Claim) -> bool:
        trials.append(claim)
        await away.wait()
        return len(trials) > 1

    worker = await single.worker(lease_ms=LEASE_MS, trial=outcome)
    renew = worker._claims.renew

    async def failing(claims: Sequence[Claim]) -> list[Claim]:
        if claims and not away.is_set():
            away.set()
            raise LogUnavailableError("away")
        return await renew(claims)

    worker._claims.renew = failing  # type: ignore[method-assign]
    await worker.start()
    await single.ended(session, hurried=worker)
    assert len(trials) == 2
    assert await session.facts() == session.expected()


async def test_claims_survive_the_command_line(single: Deployment, tmp_path: Path) -> None:
    """The process of its own gets exactly the claim that its parent holds."""
    claim, noted = a_claim(single), tmp_path / "arguments"
    dump = f"import json, sys; json.dump(sys.argv[1:], open({str(noted)!r}, 'w'))"
    assert await command_trial([sys.executable, "-c", dump], 20)(claim)
    arguments = json.loads(noted.read_text())
    assert arguments == claim_arguments(claim)
    parsed = parse_claim(single.server, arguments)
    assert parsed._replace(keys=claim.keys) == claim
    assert parsed.keys.member == claim.keys.member


def a_claim(deployment: Deployment) -> Claim:
    """Some claim."""
    return Claim(deployment.server.keys.of("a-session").run("replay-1"), str(Position(17, 2)), "a consumer", 4)
