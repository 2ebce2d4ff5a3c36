"""A power cut, modelled: Redis dies and its append-only file ends where it was last synced."""

import os
import signal
from pathlib import Path

from tests.e2e.deployment import RATE_HZ, Conversation, Up, undisturbed

SENTENCES = (1, 4)
A_SECOND = 2 * RATE_HZ


class PowerCut:
    """Takes back what Redis wrote between a conversation's first caption and its first final."""

    def __init__(self, up: Up, conversation: Conversation) -> None:
        """Will cut the append-only file of this deployment's embedded server."""
        self._up = up
        self._synced: dict[Path, int] = {}
        self.lost_bytes = 0
        conversation.on_partial = self._remember
        conversation.on_final[0] = self._cut

    def _files(self) -> list[Path]:
        return sorted((self._up.data / "valkey" / "appendonlydir").glob("*.incr.aof"))

    def _remember(self) -> None:
        self._synced = {path: path.stat().st_size for path in self._files()}

    def _cut(self) -> None:
        pid = self._up.redis_pid
        assert pid is not None
        # Its owner would start it again before the file is cut.
        self._up.process.send_signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        for path, size in self._synced.items():
            self.lost_bytes += path.stat().st_size - size
            os.truncate(path, size)
        self._up.process.send_signal(signal.SIGCONT)


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
