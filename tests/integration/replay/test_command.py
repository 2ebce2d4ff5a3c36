"""`stenolog replay` with real processes: its own workers, interruptions, and exit statuses."""

import os
import signal
from pathlib import Path

import pytest

from eventlog.keys import heartbeats as heartbeats_key
from eventlog.work import heartbeats
from eventlog.work.claims import GROUP
from stenolog.cli.replay import replay
from stenolog.errors import UserError
from tests.e2e.processes import Roles
from tests.integration.replay.commands import Command, statuses
from tests.integration.replay.replays import QUEUE, TenantStory
from tests.support.deployment import Deployment, Session, finals_in
from tests.support.pcm import Story, talk
from tests.support.waiting import eventually, eventually_async

FAR_MS = 10**14  # a heartbeat from then is fresh for as long as any test lasts


async def transcribed(deployment: Deployment, count: int) -> list[Session]:
    """Sessions that a worker for clients has finished."""
    stories = [TenantStory(talk(), tenant_id="acme", started_ms=10**12 + at) for at in range(count)]
    sessions = [await deployment.spoken(story) for story in stories]
    worker = await deployment.started()
    await deployment.ended(*sessions)
    await worker.stop()
    return sessions


async def same(session: Session, run: str) -> bool:
    """Whether a replay of it said what its live run did."""
    again = Session(session._log, session.keys, session.story)
    again.run = session.keys.run(run)
    return finals_in(await again.facts()) == finals_in(await session.facts()) != []


async def clients_wait(deployment: Deployment, *, for_s: float) -> None:
    """Write the heartbeat of a worker for clients whose oldest decision waits so long."""
    payload = f'{FAR_MS} {{"oldest_decision_s": {for_s}}}'
    await deployment.server.execute("HSET", heartbeats_key(), "worker busy", payload)


async def held(deployment: Deployment, sessions: list[Session], run: str) -> None:
    """Return when a worker has each of these runs."""

    async def look() -> bool:
        queues = {session.keys.partition.queue(QUEUE).sessions for session in sessions}
        answers = await deployment.server.execute_many([("XPENDING", name, GROUP) for name in queues])
        # No group, before the first worker is there.
        return bool(sum(answer[0] for answer in answers if not isinstance(answer, Exception)) == len(sessions))

    await eventually_async(look, message=f"workers have run {run}")


async def test_sessions_are_replayed_by_the_commands_own_workers(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: it finds sessions, starts workers, prints each outcome and the whole, and ends them; again it skips."""
    sessions = await transcribed(single, 5)
    options = ("--tenant", "acme", "--name", "nightly", "--workers", "2", "--json")
    with Command(single.url, tmp_path, *options) as command:
        assert command.ended() == 0, command.stderr
        each, summary = command.lines()
    assert statuses(each) == {session.keys.session_id: "done" for session in sessions}
    assert (summary["run"], summary["done"], summary["failed"]) == ("nightly", 5, 0)
    assert summary["audio_seconds"] == pytest.approx(5 * len(talk()) / 16_000, abs=0.01)
    assert "times real time" in command.stderr
    assert all([await same(session, "nightly") for session in sessions])
    beats = await heartbeats.read_all(single.server)
    assert {beat.role for beat in beats} == {"worker", "replayer"}
    with Command(single.url, tmp_path, *options) as again:
        assert again.ended() == 0
        each, summary = again.lines()
    assert set(statuses(each).values()) == {"skipped"}
    assert summary["audio_seconds"] == 0


async def test_an_interrupted_replay_prints_how_to_continue(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: at Ctrl-C its workers hand over at once, and it prints the command that continues where it stopped."""
    sessions = await transcribed(single, 3)
    await clients_wait(single, for_s=60)
    with Command(single.url, tmp_path, "--all", "--workers", "1") as command:
        await held(single, sessions, "any")
        await eventually_async(lambda: "paused: clients wait" in command.output())
        command.workers()
        command.send(signal.SIGINT)
        assert command.ended() == 130
    run = command.stdout.strip()
    assert run.startswith("replay-")
    assert f"stenolog replay --engine mock --all --workers 1 --name {run}" in command.stderr
    for session in sessions:
        offers = session.keys.partition.queue(QUEUE).sessions
        assert (await single.server.execute("XPENDING", offers, GROUP))[0] == 0
    await clients_wait(single, for_s=0)
    with Command(single.url, tmp_path, "--all", "--workers", "1", "--name", run) as again:
        assert again.ended() == 0, again.stderr
    assert again.stdout.strip() == run
    assert all([await same(session, run) for session in sessions])


async def test_a_killed_replay_is_gone_on_with(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1, SAFE-1: after kill -9 of the command and of its workers the same name finishes each run, once."""
    sessions = await transcribed(single, 3)
    await clients_wait(single, for_s=60)
    options = ("--all", "--workers", "2", "--name", "kept", "--json")
    with Command(single.url, tmp_path, *options) as command:
        await held(single, sessions, "kept")
        workers = command.workers()
        assert workers
        command.send(signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        command.ended()
    await clients_wait(single, for_s=0)
    with Command(single.url, tmp_path, *options) as again:
        assert again.ended() == 0, again.stderr
        each, _ = again.lines()
    assert set(statuses(each).values()) == {"done"}
    assert all([await same(session, "kept") for session in sessions])


async def test_a_killed_worker_is_replaced(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: a worker that dies under a replay is started again, and the replay ends as if it had lived."""
    sessions = await transcribed(single, 3)
    await clients_wait(single, for_s=60)
    with Command(single.url, tmp_path, "--all", "--workers", "1", "--name", "kept", "--json") as command:
        await held(single, sessions, "kept")
        [first] = command.workers()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: command.workers() not in ([], [first]))
        await clients_wait(single, for_s=0)
        assert command.ended() == 0, command.stderr
    assert all([await same(session, "kept") for session in sessions])


async def test_workers_elsewhere_do_what_a_command_without_any_starts(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: `stenolog worker --replays` works on replays for its engine alone, niced."""
    sessions = await transcribed(single, 2)
    live = await single.spoken(Story(talk()))
    with Roles(single.url, tmp_path, STENOLOG_LEASE_MS="1000") as roles:
        worker = roles._started("worker", ["--engine", "mock", "--replays"], {"STENOLOG_REPLAY_NICE": "7"})
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 7
        wanted = [session.keys.session_id for session in sessions]
        with Command(single.url, tmp_path, *wanted, "--workers", "0", "--name", "far") as command:
            assert command.ended() == 0, command.stderr
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0
    assert all([await same(session, "far") for session in sessions])
    assert await live.finals() == 0


async def test_only_started_runs_wait_for_workers(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: with --no-wait it starts the runs and ends; whatever worker of replays comes later does them."""
    [session] = await transcribed(single, 1)
    with Command(single.url, tmp_path, "--all", "--no-wait", "--name", "later", "--json") as command:
        assert command.ended() == 0, command.stderr
        each, _ = command.lines()
    assert statuses(each) == {session.keys.session_id: "started"}
    await single.started(queue=QUEUE)

    async def done() -> bool:
        return await same(session, "later")

    await eventually_async(done)


async def test_a_dry_run_changes_nothing(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: --dry-run lists what would be replayed, with lengths and obstacles, and writes no key."""
    [session] = await transcribed(single, 1)
    going = await single.open(Story(talk(), sealed=False))
    before = sorted(await single.server.execute("KEYS", "*"))
    with Command(single.url, tmp_path, "--all", "--dry-run", "--json") as command:
        assert command.ended() == 1
    output = {line["session_id"]: line for line in [*command.lines()[0], command.lines()[1]]}
    assert output[session.keys.session_id]["status"] == "found"
    assert output[session.keys.session_id]["audio_seconds"] == pytest.approx(len(talk()) / 16_000, abs=0.01)
    assert "still open" in output[going.keys.session_id]["reason"]
    with Command(single.url, tmp_path, session.keys.session_id, "--dry-run") as one:
        assert one.ended() == 0
    assert session.keys.session_id in one.stdout
    assert sorted(await single.server.execute("KEYS", "*")) == before


async def test_sessions_that_cannot_be_replayed_are_named(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: an unknown session fails with its reason and exit status 1, and the others are replayed."""
    [session] = await transcribed(single, 1)
    with Command(single.url, tmp_path, session.keys.session_id, "nobody", "--workers", "1", "--name", "x") as command:
        assert command.ended() == 1
    assert command.stdout == "x\n"
    assert "nobody: no such session" in command.stderr
    assert await same(session, "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say which sessions"),
        (("--all", "--tenant", "acme"), "say which sessions"),
        (("some", "--since", "2h"), "say which sessions"),
        (("--all", "--name", "live"), "another name"),
        (("--all", "--set", "hangover=1"), "did you mean hangover_ms"),
        (("--since", "yesterday"), "no moment"),
        (("--since", "1h", "--until", "2h"), "range of time is empty"),
        (("--all", "--no-wait", "--workers", "2"), "--no-wait"),
    ],
)
def test_wrong_usage_is_reported_before_any_request(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REPLAY-1: what can't be meant ends with exit status 2 and words, without any Redis."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        replay.main(["--engine", "mock", *arguments], standalone_mode=False)
    assert caught.value.exit_code == 2


async def test_an_engine_that_is_not_there_ends_the_replay(single: Deployment, tmp_path: Path) -> None:
    """REPLAY-1: workers that can't run as they are set end the command with their message and exit status 2."""
    await transcribed(single, 1)
    with Command(single.url, tmp_path, "--all", "--engine", "nonsense", "--workers", "1") as command:
        assert command.ended() == 2
    assert "no recogniser named nonsense" in command.stderr
