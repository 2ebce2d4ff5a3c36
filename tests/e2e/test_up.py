"""`stenolog up` end to end: real processes, real sockets, real speech, and processes that die."""

import json
import os
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from stenolog.settings import Settings
from tests.e2e.deployment import Conversation, Up, is_alive, undisturbed
from tests.support.commands import stenolog
from tests.support.waiting import eventually

# The shorter of the bundled sentences.
ONE, TWO, THREE = (1,), (1, 4), (1, 4, 2)


def kill(pids: list[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Send every one of them a signal."""
    assert pids
    for pid in pids:
        os.kill(pid, number)


def fetched(url: str) -> dict[str, object]:
    """The JSON at an address of the deployment."""
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own address
        found: dict[str, object] = json.load(answer)
    return found


def expiries(up: Up, session_id: str) -> dict[str, int]:
    """The TTL in seconds of every key with this session's id in its name; negative without one."""
    with redis.Redis.from_url(up.ready["redis"], decode_responses=True) as client:
        return {str(key): int(client.ttl(key)) for key in client.scan_iter(f"*{session_id}*", count=1000)}


def check(conversation: Conversation, end: dict[str, object], sentences: Sequence[int]) -> None:
    """Assert that the session got the finals and the transcript of an undisturbed run."""
    finals = conversation.of_type("final")
    assert [final["utterance"] for final in finals] == list(range(len(finals)))
    assert [final["text"] for final in finals] == undisturbed(sentences)
    assert end["transcript"] == " ".join(undisturbed(sentences))


def test_transcribe_prints_the_transcript_alone(up: Up, tmp_path: Path) -> None:
    """The command streams a WAV file and prints its transcript on standard output, captions on standard error."""
    (tmp_path / "speech.wav").write_bytes((Path("speech") / "sense-0880.wav").read_bytes())
    done = stenolog("transcribe", "speech.wav", "--url", up.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [text] = done.stdout.decode().splitlines()
    assert text.endswith(".")
    assert text in done.stderr.decode()
    assert b"\x1b[" not in done.stderr


def test_transcribe_reads_a_pipe_and_prints_json(up: Up, tmp_path: Path) -> None:
    """`-` is standard input, and --json prints the whole end of the session."""
    data = (Path("speech") / "sense-0930.wav").read_bytes()
    done = stenolog("transcribe", "-", "--json", "--url", up.url, cwd=tmp_path, data=data)
    end = json.loads(done.stdout)
    assert end["type"] == "session_end"
    assert end["utterances"] == 1
    assert end["audio_seconds"] == pytest.approx(3.29, abs=0.01)


def test_a_refused_language_is_the_servers_message_and_a_failure(up: Up, tmp_path: Path) -> None:
    """A refusal by the server ends the command with the server's message and exit status 1."""
    data = (Path("speech") / "sense-0880.wav").read_bytes()
    done = stenolog("transcribe", "-", "--language", "no such", "--url", up.url, cwd=tmp_path, data=data)
    assert done.returncode == 1
    assert b"invalid_language" in done.stderr
    assert done.stdout == b""


async def test_sessions_are_listed(up: Up, tmp_path: Path) -> None:
    """`stenolog sessions` uses the embedded server of the same data directory and lists its sessions."""
    conversation = Conversation(up.url, ONE, realtime=False)
    await conversation.run()
    options = ["--data", str(up.data)]

    def is_listed() -> bool:
        done = stenolog("sessions", "--json", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = [row for row in json.loads(done.stdout) if row["session_id"] == conversation.client.session_id]
        return [(row["state"], row["finals"]) for row in rows] == [("CLOSED", 1)]

    eventually(is_listed)  # the listing is one projection, the client's end another
    assert conversation.client.session_id in stenolog("sessions", *options, cwd=tmp_path).stdout.decode()


async def test_every_key_of_a_session_expires(up: Up) -> None:
    """STITCH-5: during a session and after its end, each Redis key that names it has a TTL of a day at most."""
    conversation = Conversation(up.url, ONE, realtime=False)
    found: list[dict[str, int]] = []
    conversation.on_final[0] = lambda: found.append(expiries(up, conversation.client.session_id))
    await conversation.run()
    found.append(expiries(up, conversation.client.session_id))
    for keys in found:
        assert len(keys) > 5
        assert {key: ttl_s for key, ttl_s in keys.items() if not 0 < ttl_s <= Settings().session_ttl_s} == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_client_resumes_after_its_edge_ends(number: signal.Signals, up: Up) -> None:
    """SESS-8, SESS-9, SAFE-1: with its edge killed or stopped a client resumes, and nothing is lost or repeated."""
    conversation = Conversation(up.url, TWO)
    conversation.on_final[0] = lambda: kill(up.pids("edge"), number)
    end = await conversation.run()
    check(conversation, end, TWO)
    assert len(conversation.of_type("session_start")) > 1


async def test_workers_killed_in_the_middle_change_nothing(up: Up) -> None:
    """SAFE-1: after the death of both workers, one by one, the finals are those of an undisturbed run."""
    conversation = Conversation(up.url, THREE)
    first, second = up.pids("worker")
    conversation.on_partial = lambda: kill([first])
    conversation.on_final[0] = lambda: kill([second])
    end = await conversation.run()
    check(conversation, end, THREE)
    assert {first, second}.isdisjoint(eventually(lambda: up.pids("worker")))


async def test_stopped_workers_hand_over(up: Up) -> None:
    """SESS-8: after SIGTERM to every worker others continue the session, and nothing comes twice."""
    conversation = Conversation(up.url, TWO)
    conversation.on_final[0] = lambda: kill(up.pids("worker"), signal.SIGTERM)
    check(conversation, await conversation.run(), TWO)


async def test_projections_killed_in_the_middle_change_nothing(up: Up) -> None:
    """STITCH-2, SAFE-1: after kill -9 of the projections every final still comes once, in order."""
    conversation = Conversation(up.url, TWO)
    conversation.on_partial = lambda: kill(up.pids("projector"))
    conversation.on_final[1] = lambda: kill(up.pids("projector"))
    end = await conversation.run()
    check(conversation, end, TWO)


async def test_an_embedded_server_that_dies_comes_back_with_its_data(up: Up) -> None:
    """SESS-10: after kill -9 of Valkey edges keep their sockets, and the session continues from its data on disk."""
    conversation = Conversation(up.url, TWO)
    redis_pid = up.redis_pid
    assert redis_pid is not None
    conversation.on_final[0] = lambda: kill([redis_pid])
    end = await conversation.run()
    check(conversation, end, TWO)
    assert up.redis_pid != redis_pid


def test_it_is_ready_only_when_everything_runs(up: Up) -> None:
    """SESS-5: the address that it logs answers as ready."""
    found = fetched(f"{up.url}/v1/ready")
    assert found["ready"]
    assert found["workers"]
    assert found["projections"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    """SESS-8: a signal ends every process, the server last, with exit status 0."""
    with Up(tmp_path / "data") as up:
        await Conversation(up.url, ONE, realtime=False).run()
        pids = [pid for role in ("edge", "worker", "projector") for pid in up.pids(role)]
        assert len(pids) == 3
        assert up.stop(number) == 0
        assert not any(map(is_alive, pids))
        assert up.redis_pid is None
    warnings = [line for line in up.lines if line["level"] != "info"]
    assert [line["logger"] for line in warnings] == ["projections.eventbridge.sink"]  # without credentials


async def test_the_server_of_a_killed_up_is_adopted_by_the_next(tmp_path: Path) -> None:
    """OPS-2: after kill -9 of `up` the roles end themselves, and the next one adopts the server with its sessions."""
    data = tmp_path / "data"
    first = Up(data)
    with first:
        conversation = Conversation(first.url, ONE, realtime=False)
        await conversation.run()
        pids = [pid for role in ("edge", "worker", "projector") for pid in first.pids(role)]
        kill([first.process.pid])
        first.process.wait()
        eventually(lambda: not any(map(is_alive, pids)), 30, "the roles end themselves")
        redis_pid = first.redis_pid
        assert redis_pid is not None
        with Up(data) as second:
            assert second.records("adopted")
            assert second.redis_pid == redis_pid
            found = fetched(f"{second.url}/v1/sessions/{conversation.client.session_id}/transcript")
            assert found["transcript"] == " ".join(undisturbed(ONE))
            assert second.stop() == 0
        assert not is_alive(redis_pid)


def test_a_second_up_on_the_same_directory_is_refused(up: Up, tmp_path: Path) -> None:
    """OPS-2: two of them can't share a data directory; the second names the process that holds it."""
    done = stenolog("up", "--port", "0", "--data", str(up.data), cwd=tmp_path)
    assert done.returncode == 1
    assert str(up.process.pid).encode() in done.stderr


def test_a_role_that_cannot_run_stops_the_start(tmp_path: Path) -> None:
    """A worker without its engine ends `up` with its message instead of endless restarts."""
    done = stenolog("up", "--port", "0", "--engine", "magic", "--data", "data", cwd=tmp_path)
    assert done.returncode == 2
    assert b"no recogniser named magic" in done.stderr
    assert b"worker can't run" in done.stderr
