"""`stenolog diff`, `stenolog promote` and `stenolog sessions --runs`, as a user sees them."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from click.testing import CliRunner, Result

from edge.views.exports import srt
from eventlog.keys import LIVE_RUN, Keys
from eventlog.positions import Position
from eventlog.readmodel.views import read_document
from eventlog.redis.server import Server, connect
from stenolog.cli import cli
from tests.integration.projections.facts import ended, opened, write
from tests.integration.replay.runs import a_session, project, say, texts
from tests.support.commands import stenolog
from tests.support.tree import ROOT

GOLDEN = ROOT / "tests/golden"
PARTITIONS = 8
LIVE = ["We saw the old house again,", "and nobody was there."]
AGAIN = ["We saw a house again,", "and nobody was there today."]


class Terminal:
    """A user with a shell in an empty directory, whose deployment a test fills."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        """Uses the empty Redis at `redis_url`."""
        self._redis_url = redis_url
        self._directory = directory

    def fill(self, work: Callable[[Server], Awaitable[None]]) -> None:
        """Does something in the deployment."""

        async def filled() -> None:
            server = await connect(self._redis_url, partitions=PARTITIONS)
            await work(server)
            await server.close()

        asyncio.run(filled())

    def run(self, *arguments: str, status: int = 0, **variables: str) -> Result:
        """Runs a command within this process, where it must exit with `status`: a new one each would take a second."""
        known = {"REDIS_URL": self._redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}
        done = CliRunner().invoke(cli, arguments, env={**known, **variables})
        assert done.exit_code == status, (done.output, done.exception)
        return done

    def start(self, *arguments: str, status: int = 0, **variables: str) -> CompletedProcess[bytes]:
        """Runs the command line as a process of its own."""
        known = {"REDIS_URL": self._redis_url, "STENOLOG_PARTITIONS": str(PARTITIONS)}
        done = stenolog(*arguments, cwd=self._directory, variables={**known, **variables})
        assert done.returncode == status, (done.stdout, done.stderr)
        return done


@pytest.fixture
def terminal(redis_url: str, tmp_path: Path) -> Terminal:
    """A user with an empty deployment."""
    return Terminal(redis_url, tmp_path)


async def two_sessions(server: Server) -> None:
    """One whose replay differs, one whose replay agrees, and one without a replay."""
    for session_id, said in (("differs", AGAIN), ("agrees", LIVE), ("alone", None)):
        keys = server.keys.of(session_id)
        await write(server, keys.run(), [opened(keys.run())])
        await say(server, keys.run(), LIVE)
        if said is not None:
            await say(server, keys.run("again"), said)
        await project(server, keys.run(), keys.run("again"))


def test_differences_are_reported(terminal: Terminal) -> None:
    """REPLAY-1: the words that differ are marked among those around them, with the rates of each session and in all."""
    terminal.fill(two_sessions)
    done = terminal.start("diff", "live", "again", status=1)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "differs  live -> again WER 40.00 %: 2 substituted, 1 deleted, 1 inserted of 10 words"
    assert "  [0:00] We saw [-the-] [-old-]{+a+} house again, and nobody was [-there.-]{+there+} {+today.+} " in lines
    rows = {line.split()[0]: line.split()[1:] for line in lines if line and not line.startswith(" ")}
    assert rows["agrees"] == ["10", "10", "0", "0", "0", "0.00", "%"]
    assert "alone" not in rows
    assert b"\x1b[" not in done.stdout


async def old_and_new_run(server: Server) -> None:
    """A session whose run is of a version without words, and whose replay has them."""
    keys = server.keys.of("old")
    [old] = (GOLDEN / "utterance_final.v1.json").read_bytes().splitlines()
    [new] = (GOLDEN / "utterance_final.v2.json").read_bytes().splitlines()
    for run, fact in ((keys.run(), old), (keys.run("again"), new)):
        await write(server, run, [opened(run), (Position(8, 0), fact), ended(8)])
    await project(server, keys.run(), keys.run("again"))


def test_runs_of_older_facts_are_compared_and_read(terminal: Terminal) -> None:
    """REPLAY-1: facts of an older version are compared with those of a replay, and read without words (WORD-3)."""
    terminal.fill(old_and_new_run)
    found = json.loads(terminal.run("diff", "live", "again", "--json", status=1).stdout)
    [one] = found["sessions"]
    assert [(each["kind"], each["a"], each["b"]) for each in one["differences"]] == [("delete", "\U0001f44b", "")]

    async def check(server: Server) -> None:
        live, again = [await read_document(server, server.keys.of("old").run(run)) for run in ("live", "again")]
        assert live is not None
        assert again is not None
        assert (live.utterances[0].words, live.utterances[0].language) == ((), "")
        assert [word.text for word in again.utterances[0].words] == ["Grüße,", '"Ana"']
        for document in (live, again):
            lines = srt(document.utterances).splitlines()
            assert lines[1].startswith("00:00:00,420 -->" if document is live else "00:00:00,500 -->")
            assert lines[2].split() == document.transcript.split()

    terminal.fill(check)


def test_numbers_can_be_had_alone_and_as_json(terminal: Terminal) -> None:
    """REPLAY-1: `--summary` prints a line a session, `--json` everything; ignored differences don't count."""
    terminal.fill(two_sessions)
    lines = terminal.run("diff", "live", "again", "--summary", status=1).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["session", "agrees", "differs", "in"]
    report = json.loads(terminal.run("diff", "live", "again", "differs", "--json", status=1).stdout)
    assert report["total"] == {
        "words_a": 10, "words_b": 10, "substitutions": 2, "deletions": 1, "insertions": 1, "wer": 0.4,
    }  # fmt: skip
    [session] = report["sessions"]
    assert (session["session_id"], session["is_over"], session["counts"]) == ("differs", True, report["total"])
    assert [one["kind"] for one in session["differences"]] == ["delete", "replace", "replace", "insert"]
    assert session["differences"][2] == {"kind": "replace", "a": "there.", "b": "there", "start": 2.0, "channel": 0}
    ignoring = json.loads(
        terminal.run("diff", "live", "again", "differs", "--json", "--ignore-punctuation", status=1).stdout
    )
    assert ignoring["total"]["substitutions"] == 1


def test_the_exit_status_says_whether_runs_agree(terminal: Terminal) -> None:
    """REPLAY-1: 0 where they agree, 2 where a run isn't there, nothing has both, or the deployment is another."""
    terminal.fill(two_sessions)
    terminal.run("diff", "live", "again", "agrees")
    terminal.run("diff", "again", "again", "differs")
    assert "alone doesn't have both runs" in terminal.run("diff", "live", "again", "alone", "agrees", status=2).stderr
    assert "no session has both live and never" in terminal.run("diff", "live", "never", status=2).stderr
    terminal.run("diff", "live", status=2)
    terminal.run("diff", "live", "again", status=2, STENOLOG_PARTITIONS="9")


def test_colours_are_for_terminals_that_want_them(terminal: Terminal) -> None:
    """REPLAY-1: words are coloured on a terminal, and not where NO_COLOR is set."""
    terminal.fill(two_sessions)
    coloured = terminal.start("diff", "live", "again", "differs", status=1, FORCE_COLOR="1", TERM="xterm").stdout
    assert re.search(rb"\x1b\[31m\[-the-\]\x1b\[0m", coloured)
    assert re.search(rb"\x1b\[32m\{\+a\+\}\x1b\[0m", coloured)
    plain = terminal.start("diff", "live", "again", "differs", status=1, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm")
    assert b"\x1b[31m" not in plain.stdout
    assert b"\x1b[32m" not in plain.stdout


def test_an_unfinished_run_is_compared_so_far(terminal: Terminal) -> None:
    """REPLAY-1: a comparison with a run that isn't over says so."""

    async def going(server: Server) -> None:
        keys = await a_session(server, session_id="going")
        await say(server, keys.run("again"), texts(LIVE_RUN), is_over=False)

    terminal.fill(going)
    done = terminal.run("diff", "live", "again", "--json")
    assert [one["is_over"] for one in json.loads(done.stdout)["sessions"]] == [False]
    assert "not over yet, compared so far: going" in terminal.run("diff", "live", "again").stderr


async def three_sessions(server: Server) -> None:
    """Two with a replay, one whose replay still runs."""
    for session_id in ("s1", "s2", "s3"):
        await a_session(server, *(() if session_id == "s3" else ("again",)), session_id=session_id)
    await say(server, server.keys.of("s3").run("again"), texts("again"), is_over=False)


def outcomes(done: Result) -> dict[str, str]:
    """What became of each session."""
    return {one["session_id"]: one["outcome"] for one in json.loads(done.stdout)}


def test_a_run_is_promoted_and_taken_back(terminal: Terminal) -> None:
    """REPLAY-1: `promote` switches the sessions named, or all that have the run, and prints what became of each."""
    terminal.fill(three_sessions)
    done = terminal.run("promote", "again", "s1")
    assert done.stdout == "readers of 1 session get again from now on\n"
    keys = Keys(PARTITIONS).of("s1")
    terminal.fill(lambda server: _is_first(server, keys.list, texts("again")[0]))
    done = terminal.run("promote", "again", "--all", "--json", status=1)
    assert outcomes(done) == {"s1": "unchanged", "s2": "promoted", "s3": "not_ended"}
    assert "s3: not promoted, again isn't over" in terminal.run("promote", "again", "s3", status=1).stderr
    assert outcomes(terminal.run("promote", "again", "nobody", "--json", status=1)) == {"nobody": "gone"}
    assert outcomes(terminal.run("promote", "live", "--all", "--json")) == {"s1": "promoted", "s2": "promoted"}
    terminal.fill(lambda server: _is_first(server, keys.list, texts(LIVE_RUN)[0]))
    for wrong in (("promote", "again"), ("promote", "again", "s1", "--all"), ("promote",)):
        terminal.run(*wrong, status=2)


async def _is_first(server: Server, key: str, text: str) -> None:
    assert json.loads(await server.execute("LINDEX", key, 0))["text"] == text


def test_a_run_that_failed_is_not_promoted(terminal: Terminal) -> None:
    """REPLAY-1: readers don't get a run that failed, unless it is the live one to which they go back."""

    async def failing(server: Server) -> None:
        keys = await a_session(server, "again", session_id="s1")
        for view in (keys.view, keys.run("again").view):
            await server.execute("HSET", view, "reason", "failed")

    terminal.fill(failing)
    assert "s1: not promoted, that run failed" in terminal.run("promote", "again", "s1", status=1).stderr
    assert outcomes(terminal.run("promote", "live", "s1", "--json")) == {"s1": "unchanged"}


def test_sessions_list_their_runs(terminal: Terminal) -> None:
    """REPLAY-1: `sessions --runs` names each session's runs, and which of them readers receive."""
    terminal.fill(three_sessions)
    terminal.run("promote", "again", "s2")
    listed = {one["session_id"]: one for one in json.loads(terminal.run("sessions", "--runs", "--json").stdout)}
    assert {name: [(run["run"], run["promoted"]) for run in one["runs"]] for name, one in listed.items()} == {
        "s1": [("live", True), ("again", False)], "s2": [("live", False), ("again", True)],
        "s3": [("live", True)],
    }  # fmt: skip
    rows = [line.split()[:2] for line in terminal.run("sessions", "--runs").stdout.splitlines()]
    assert [row for row in rows if row[0] == "*"] == [["*", "live"], ["*", "again"], ["*", "live"]]
    assert "runs" not in json.loads(terminal.run("sessions", "--json").stdout)[0]
