"""The uplink alone: whatever comes in whatever pieces, entries are placed right and sent until the log has them."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edge.session.uplink import Seal, Uplink
from eventlog.appender import CHUNK_BYTES
from eventlog.codec import decode_audio_event
from eventlog.events import Finalized, HoleFound, SessionSealed
from eventlog.keys import Keys
from eventlog.log import Append, Appended, Code
from eventlog.positions import OPENED, SEALED, Position

KEYS = Keys(1).of("s1")


class Log:
    """The append guard's rules, and failures on demand."""

    def __init__(self) -> None:
        self.entries: list[Append] = []
        self.sealed_by_other = False

    @property
    def head(self) -> Position:
        """Where the stream ends."""
        return self.entries[-1].position if self.entries else OPENED

    def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Each is taken if it follows the head."""
        answers = []
        for append in appends:
            if append.after == self.head and append.position > self.head:
                self.entries.append(append)
                answers.append(Appended(Code.OK))
            else:
                answers.append(Appended(Code.MISPLACED, append.epoch, self.head))
        return answers

    def audio(self, frame_bytes: int) -> bytes:
        """All audio, with zeros in place of holes."""
        parts = []
        for entry in self.entries:
            if entry.is_audio:
                parts.append(entry.payload)
            elif isinstance(event := decode_audio_event(entry.payload), HoleFound):
                parts.append(bytes(event.samples * frame_bytes))
        return b"".join(parts)


def uplink(*, channels: int = 1, resend_buffer_bytes: int = 1 << 20) -> Uplink:
    """An uplink of a fresh session."""
    return Uplink(KEYS, 1, OPENED, frame_bytes=2 * channels, resend_buffer_bytes=resend_buffer_bytes)


def drain(line: Uplink, log: Log) -> None:
    """Flushes until nothing is left."""
    while line.unacked_bytes >= line.frame_bytes:
        line.settle(log.append(line.prepare()))


@given(st.binary(max_size=4_000), st.lists(st.integers(0, 700), max_size=30), st.sampled_from([1, 2]), st.randoms())
def test_pieces_do_not_matter(audio: bytes, cuts: list[int], channels: int, chance: random.Random) -> None:
    """However audio is cut and flushed, the log holds its whole samples, and the uplink knows the misaligned rest."""
    line, log, at = uplink(channels=channels), Log(), 0
    for cut in [*cuts, len(audio)]:
        line.add_audio(audio[at : at + cut])
        at += cut
        if chance.random() < 0.5:
            line.settle(log.append(line.prepare()))
    drain(line, log)
    whole = len(audio) - len(audio) % (2 * channels)
    assert log.audio(2 * channels) == audio[:whole]
    assert line.misaligned_bytes == len(audio) - whole
    assert line.acked_samples == whole // (2 * channels)
    assert line.unacked_bytes == line.misaligned_bytes


@given(st.data())
def test_failures_lose_and_double_nothing(data: st.DataObject) -> None:
    """Lost calls, lost answers and a log that goes back leave every sample once, in its place (SAFE-1)."""
    line, log, sent = uplink(), Log(), b""
    steps = st.sampled_from(["audio", "finalize", "flush", "lost", "unheard", "back"])
    for step in data.draw(st.lists(steps, max_size=40)):
        if step == "audio":
            audio = data.draw(st.binary(min_size=1, max_size=50))
            sent += audio
            line.add_audio(audio)
        elif step == "finalize":
            line.add_control(Finalized())
        elif step == "back" and log.entries:
            del log.entries[data.draw(st.integers(0, len(log.entries) - 1)) :]
        else:
            appends = line.prepare()
            answers = log.append(appends) if step != "lost" else []
            line.settle(answers if step == "flush" else [Appended(Code.UNKNOWN)] * len(appends))
    line.add_audio(b"\0" * (len(sent) % 2))
    line.add_control(Seal("stop"))
    drain(line, log)
    assert log.audio(2) == sent + b"\0" * (len(sent) % 2)
    assert log.head == SEALED
    last = decode_audio_event(log.entries[-1].payload)
    assert last == SessionSealed(reason="stop", offset_samples=(len(sent) + 1) // 2)
    positions = [entry.position for entry in log.entries]
    assert positions == sorted(set(positions))


@given(st.integers(0, 400), st.lists(st.integers(1, 40), min_size=2, max_size=20), st.data())
def test_audio_that_is_not_kept_is_a_hole(resend_buffer_bytes: int, sizes: list[int], data: st.DataObject) -> None:
    """After a loss the stream's length is right: audio that was not kept any more is a hole of its exact length."""
    line, log = uplink(resend_buffer_bytes=resend_buffer_bytes), Log()
    for number, size in enumerate(sizes, 1):
        line.add_audio(number.to_bytes(2, "little") * size)
        drain(line, log)
    del log.entries[data.draw(st.integers(0, len(sizes) - 1)) :]
    line.add_audio(b"\xff\xff")
    drain(line, log)
    sent = b"".join(number.to_bytes(2, "little") * size for number, size in enumerate(sizes, 1)) + b"\xff\xff"
    audio = log.audio(2)
    assert len(audio) == len(sent)
    assert all(there in {0, want} for there, want in zip(audio, sent, strict=True))
    assert audio.count(0) - sent.count(0) <= 2 * line.lost_samples
    assert log.head == Position(len(sent) // 2, 0)


@given(st.integers(0, 400), st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=20))
def test_repeated_losses_keep_the_length(resend_buffer_bytes: int, rounds: list[tuple[int, int, bool]]) -> None:
    """However often the log goes back, by entries or within one, the stream has the length of the received audio."""
    line, log, sent = uplink(resend_buffer_bytes=resend_buffer_bytes), Log(), b""
    for size, lost_entries, is_cut in [*rounds, (1, 0, False)]:
        sent += b"\1\2" * size
        line.add_audio(b"\1\2" * size)
        line.add_control(Finalized())
        drain(line, log)
        del log.entries[len(log.entries) - lost_entries :]
        if is_cut and log.entries and log.entries[-1].is_audio and len(log.entries[-1].payload) > 2:
            cut = log.entries[-1]  # as if an earlier connection had cut its entries elsewhere
            log.entries[-1] = cut._replace(position=Position(cut.position.offset - 1, 0), payload=cut.payload[:-2])
    line.add_audio(b"\1\2")
    drain(line, log)
    audio = log.audio(2)
    assert len(audio) == len(sent) + 2
    assert set(audio[0::2]) <= {0, 1}
    assert set(audio[1::2]) <= {0, 2}


def test_large_frames_are_cut() -> None:
    """No entry is larger than the bound, whatever a client sends at once."""
    line, log = uplink(channels=2), Log()
    line.add_audio(bytes(1_000_000))
    drain(line, log)
    assert max(len(entry.payload) for entry in log.entries) <= CHUNK_BYTES
    assert log.head == Position(250_000, 0)


def test_the_resend_buffer_is_bounded() -> None:
    """The resend buffer stays within its bound."""
    line, log = uplink(resend_buffer_bytes=10_000), Log()
    for _ in range(50):
        line.add_audio(bytes(3_200))
        drain(line, log)
    assert line._resendable_bytes <= 10_000
    assert sum(len(entry.payload) for entry in line._resend_buffer) == line._resendable_bytes


def test_waiting_control_events_count() -> None:
    """A flood of control events that wait counts as memory held, so that back-pressure sees it."""
    line = uplink()
    for _ in range(100):
        line.add_control(Finalized())
    assert line.unacked_bytes > 10_000
