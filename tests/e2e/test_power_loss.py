"""A modelled power loss: Redis dies, and its append-only file ends at its last sync."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import redis

from eventlog.codec import decode_fact
from eventlog.events import HoleNoted
from stenolog.client.websocket import Message
from tests.e2e.deployment import RATE_HZ, Conversation, Up, undisturbed

SENTENCES = (1, 4)
A_SECOND = 2 * RATE_HZ
PROBES = 20
"""Probed writes: the sync of each second may follow one by chance, not so many."""


class PowerLoss:
    """Takes back Redis's writes between a conversation's first partial and its first final."""

    def __init__(self, up: Up, conversation: Conversation) -> None:
        """Prepare to truncate the append-only file of this deployment's embedded server."""
        self._up = up
        self._synced: dict[Path, int] = {}
        self.lost_bytes = 0
        conversation.on_partial = self._note_sizes
        conversation.on_final[0] = self._lose_power

    def _others(self) -> list[int]:
        """Other processes that die with it."""
        return []

    def _files(self) -> list[Path]:
        return sorted((self._up.data / "valkey" / "appendonlydir").glob("*.incr.aof"))

    def _note_sizes(self) -> None:
        self._synced = {path: path.stat().st_size for path in self._files()}

    def _lose_power(self) -> None:
        pid = self._up.redis_pid
        assert pid is not None
        # Its owner would restart it before the file is truncated.
        self._up.process.send_signal(signal.SIGSTOP)
        for other in (pid, *self._others()):
            os.kill(other, signal.SIGKILL)
        for path, size in self._synced.items():
            self.lost_bytes += path.stat().st_size - size
            os.truncate(path, size)
        self._up.process.send_signal(signal.SIGCONT)


class MachineLoss(PowerLoss):
    """Kills every process, and takes back Redis's writes after the last ack that the client got."""

    def __init__(self, up: Up, conversation: "AckedConversation") -> None:
        """Prepare to kill every role of this deployment."""
        super().__init__(up, conversation)
        conversation.on_partial = None
        conversation.on_ack = self._note_sizes

    def _others(self) -> list[int]:
        return [pid for role in ("edge", "worker", "projector") for pid in self._up.pids(role)]


class AckedConversation(Conversation):
    """A conversation with a callback for acks."""

    on_ack: Callable[[], None]

    def _receive(self, message: Message) -> None:
        if message["type"] == "ack" and not self.of_type("final"):
            self.on_ack()
        super()._receive(message)


async def test_lost_audio_is_appended_and_decided_again(up: Up) -> None:
    """SAFE-1: with the log's last seconds lost, acked audio and finals too, transcript and feed end whole."""
    conversation = Conversation(up.url, SENTENCES)
    loss = PowerLoss(up, conversation)
    end = await conversation.run()
    assert loss.lost_bytes > A_SECOND
    kinds = [message["type"] for message in conversation.messages]
    after_reset = conversation.messages[kinds.index("reset") :]
    assert [message["text"] for message in after_reset if message["type"] == "final"] == undisturbed(SENTENCES)
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))


async def test_audio_that_no_edge_keeps_becomes_a_hole(tmp_path: Path) -> None:
    """SAFE-1: with `fast`, lost audio that the edge no longer keeps is a hole among the facts."""
    with Up(tmp_path, STENOLOG_LEASE_MS="1500", STENOLOG_RESEND_BUFFER_S="0") as up:
        conversation = Conversation(up.url, SENTENCES)
        loss = PowerLoss(up, conversation)
        await conversation.run()
        with redis.Redis.from_url(up.ready["redis"]) as client:
            [transcript] = client.keys("*:transcript:*")
            facts = [decode_fact(fields[b"fact"]) for _, fields in client.xrange(transcript)]
    assert loss.lost_bytes > A_SECOND
    [hole] = [fact for fact in facts if isinstance(fact, HoleNoted)]
    assert hole.end_samples - hole.start_samples > RATE_HZ


async def test_under_safe_power_loss_takes_no_acked_audio(tmp_path: Path) -> None:
    """SAFE-1: with `safe` all processes of a machine die, and no client has to resend acked audio."""
    with Up(tmp_path, STENOLOG_LEASE_MS="1500", STENOLOG_DURABILITY="safe") as up:
        conversation = AckedConversation(up.url, SENTENCES)
        MachineLoss(up, conversation)
        end = await conversation.run()
        starts = conversation.of_type("session_start")
        acks = [message["offset"] for message in conversation.messages[: conversation.messages.index(starts[1])]
                if message["type"] == "ack"]  # fmt: skip
        with redis.Redis.from_url(up.ready["redis"]) as client:
            synced = [_is_synced(client, number) for number in range(PROBES)]
    assert starts[1]["offset"] >= max(acks) > 0
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))
    assert all(synced)


def _is_synced(client: redis.Redis, number: int) -> bool:
    """Whether a write is on disk once Redis replies to it."""
    with client.pipeline(transaction=False) as pipeline:  # both on one connection
        pipeline.set("{stenolog}:probe", number, px=1000)
        pipeline.execute_command("WAITAOF", 1, 0, 1)  # type: ignore[no-untyped-call]
        _, (local, _) = pipeline.execute()
    return bool(local == 1)
