"""A power cut, modelled: Redis dies and its append-only file ends where it was last synced."""

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
"""Writes asked after: one may be followed by the second's sync by chance, not so many."""


class PowerCut:
    """Takes back what Redis wrote between a conversation's first caption and its first final."""

    def __init__(self, up: Up, conversation: Conversation) -> None:
        """Will cut the append-only file of this deployment's embedded server."""
        self._up = up
        self._synced: dict[Path, int] = {}
        self.lost_bytes = 0
        conversation.on_partial = self._remember
        conversation.on_final[0] = self._cut

    def _others(self) -> list[int]:
        """Which other processes die with it."""
        return []

    def _files(self) -> list[Path]:
        return sorted((self._up.data / "valkey" / "appendonlydir").glob("*.incr.aof"))

    def _remember(self) -> None:
        self._synced = {path: path.stat().st_size for path in self._files()}

    def _cut(self) -> None:
        pid = self._up.redis_pid
        assert pid is not None
        # Its owner would start it again before the file is cut.
        self._up.process.send_signal(signal.SIGSTOP)
        for other in (pid, *self._others()):
            os.kill(other, signal.SIGKILL)
        for path, size in self._synced.items():
            self.lost_bytes += path.stat().st_size - size
            os.truncate(path, size)
        self._up.process.send_signal(signal.SIGCONT)


class MachinesCut(PowerCut):
    """Takes everything that runs, and what Redis wrote after the last ack that the client heard."""

    def __init__(self, up: Up, conversation: "Acked") -> None:
        """Will kill every role of this deployment."""
        super().__init__(up, conversation)
        conversation.on_partial = None
        conversation.on_ack = self._remember

    def _others(self) -> list[int]:
        return [pid for role in ("edge", "worker", "projector") for pid in self._up.pids(role)]


class Acked(Conversation):
    """A conversation that says when it hears an ack."""

    on_ack: Callable[[], None]

    def _take(self, message: Message) -> None:
        if message["type"] == "ack" and not self.of_type("final"):
            self.on_ack()
        super()._take(message)


async def test_what_a_power_cut_took_is_appended_and_decided_again(tmp_path: Path) -> None:
    """SAFE-1: with the last seconds of the log gone, acked audio and finals too, transcript and feed end whole."""
    with Up(tmp_path, "--workers", "2", STENOLOG_LEASE_MS="1500") as up:
        conversation = Conversation(up.url, SENTENCES)
        cut = PowerCut(up, conversation)
        end = await conversation.hold()
    assert cut.lost_bytes > A_SECOND
    kinds = [message["type"] for message in conversation.heard]
    anew = conversation.heard[kinds.index("reset") :]
    assert [message["text"] for message in anew if message["type"] == "final"] == undisturbed(SENTENCES)
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))


async def test_what_cannot_be_appended_again_is_told_as_a_hole(tmp_path: Path) -> None:
    """SAFE-1: with `fast`, what a power cut took and the edge doesn't keep any more is a hole among the facts."""
    with Up(tmp_path, STENOLOG_LEASE_MS="1500", STENOLOG_RESEND_BUFFER_S="0") as up:
        conversation = Conversation(up.url, SENTENCES)
        cut = PowerCut(up, conversation)
        await conversation.hold()
        with redis.Redis.from_url(up.ready["redis"]) as client:
            [transcript] = client.keys("*:transcript:*")
            facts = [decode_fact(fields[b"fact"]) for _, fields in client.xrange(transcript)]
    assert cut.lost_bytes > A_SECOND
    [hole] = [fact for fact in facts if isinstance(fact, HoleNoted)]
    assert hole.end_samples - hole.start_samples > RATE_HZ


async def test_under_safe_a_power_cut_takes_nothing_that_was_acked(tmp_path: Path) -> None:
    """SAFE-1: with `safe` all of a machine's processes die and no client has to send again what was acked."""
    with Up(tmp_path, STENOLOG_LEASE_MS="1500", STENOLOG_DURABILITY="safe") as up:
        conversation = Acked(up.url, SENTENCES)
        MachinesCut(up, conversation)
        end = await conversation.hold()
        starts = conversation.of_type("session_start")
        acks = [message["offset"] for message in conversation.heard[: conversation.heard.index(starts[1])]
                if message["type"] == "ack"]  # fmt: skip
        with redis.Redis.from_url(up.ready["redis"]) as client:
            synced = [_is_synced(client, number) for number in range(PROBES)]
    assert starts[1]["offset"] >= max(acks) > 0
    assert end["transcript"] == " ".join(undisturbed(SENTENCES))
    assert all(synced)


def _is_synced(client: redis.Redis, number: int) -> bool:
    """Whether a write is on disk once it is answered."""
    with client.pipeline(transaction=False) as pipeline:  # both on one connection
        pipeline.set("{stenolog}:probe", number, px=1000)
        pipeline.execute_command("WAITAOF", 1, 0, 1)  # type: ignore[no-untyped-call]
        _, (local, _) = pipeline.execute()
    return bool(local == 1)
