"""The pure appender: whatever the log answers, entries that count as done are in the log in order, once."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.appender import CHUNK_BYTES, Appender, Outcome, counts_as_done
from eventlog.codec import decode_audio_event
from eventlog.events import Finalized, SessionSealed
from eventlog.keys import Keys
from eventlog.log import Append, Appended, Code
from eventlog.positions import OPENED, SEALED, Position

KEYS = Keys(1).of("s1")
AT = Position(100, 0)
BEFORE, BEHIND = Position(99, 0), Position(101, 0)
UNKNOWN = Appended(Code.UNKNOWN)


class SharedAppender(Appender):
    """One of several under the same epoch."""

    is_shared = True


class Log:
    """The guard of `append_audio`: an epoch, a head, and the entries."""

    def __init__(self) -> None:
        self.epoch = 1
        self.entries: list[Append] = []

    @property
    def head(self) -> Position:
        """Where the stream ends."""
        return self.entries[-1].position if self.entries else OPENED

    def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Each is taken if it comes under the epoch and follows the head."""
        answers = []
        for append in appends:
            if append.epoch != self.epoch:
                answers.append(Appended(Code.SUPERSEDED, self.epoch, self.head))
            elif append.after == self.head:
                self.entries.append(append)
                answers.append(Appended(Code.OK))
            elif self.head == SEALED and append.position != SEALED:
                answers.append(Appended(Code.SEALED, self.epoch, SEALED))
            else:
                answers.append(Appended(Code.MISPLACED, self.epoch, self.head))
        return answers

    def lose(self, count: int, *, epoch: bool) -> None:
        """A failover to a replica that lacks the last `count` entries, and perhaps the last raise of the epoch."""
        del self.entries[max(0, len(self.entries) - count) :]
        self.epoch = max(1, self.epoch - epoch)

    def payloads(self) -> list[bytes]:
        """What the stream holds, in order."""
        return [entry.payload for entry in self.entries]


class Sender:
    """Places audio, sends all of it that is not acked, and follows the outcomes; it keeps all against a loss."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.appender = Appender(KEYS, log.epoch, log.head, frame_bytes=1)
        self.placed: list[Append] = []
        self.acked = 0
        self.is_superseded = False

    def add(self, data: bytes) -> None:
        """Place audio behind all that was placed."""
        last = self.placed[-1].position if self.placed else OPENED
        self.placed += self.appender.place_audio(data, last)

    def flush(self, arriving: int, *, is_answered: bool) -> None:
        """Send every unacked entry, of which `arriving` appends get through."""
        waiting = self.placed[self.acked :]
        answers = self.log.append(waiting[:arriving])
        answers += [UNKNOWN] * (len(waiting) - len(answers))
        for append, answer in zip(waiting, answers if is_answered else [UNKNOWN] * len(waiting), strict=True):
            outcome = self.appender.judge(answer, append.position)
            if outcome is not Outcome.DONE:
                self.follow(outcome, answer)
                return
            assert append in self.log.entries
            self.appender.head = append.position
            self.acked += 1

    def follow(self, outcome: Outcome, answer: Appended) -> None:
        """Do what the outcome says."""
        self.is_superseded = outcome is Outcome.REFUSED
        if outcome is Outcome.FORGOTTEN:
            self.log.epoch = self.appender.epoch = self.log.epoch + 1
            answer = Appended(Code.MISPLACED, self.log.epoch, self.log.head)
        if outcome in {Outcome.MOVED, Outcome.FORGOTTEN}:
            self.appender.head = answer.head
            self.placed = [one._replace(epoch=self.appender.epoch) for one in self.placed]
            self.acked = sum(one.position <= answer.head for one in self.placed)


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("flush"), st.integers(0, 4), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("raise")),
)


@given(st.lists(STEPS, max_size=40))
def test_what_is_acked_is_in_the_log_in_order_once(steps: list[tuple[object, ...]]) -> None:
    """Lost calls, lost answers, failovers and forgotten epochs leave each entry once, in its place (SAFE-1)."""
    log = Log()
    sender, number = Sender(log), 0
    for step in steps:
        match step:
            case ("add", int(count)):
                for _ in range(count):
                    number += 1
                    sender.add(bytes([number % 256]) * number)
            case ("flush", int(arriving), bool(is_answered)):
                sender.flush(arriving, is_answered=is_answered)
            case ("lose", int(count), bool(epoch)):
                log.lose(count, epoch=epoch)
            case ("raise",):  # as the sender's own resume does
                log.epoch = sender.appender.epoch = max(log.epoch, sender.appender.epoch) + 1
                sender.follow(Outcome.MOVED, Appended(Code.MISPLACED, log.epoch, log.head))
        assert not sender.is_superseded
    last = sender.placed[-1].position if sender.placed else OPENED
    sender.placed.append(sender.appender.place_seal("stop", last, last))  # finds what the log lost since the last ack
    for _ in range(4):  # a lost epoch, then lost entries, cost a flush each
        sender.flush(len(sender.placed), is_answered=True)
    assert log.payloads()[:-1] == [bytes([one % 256]) * one for one in range(1, number + 1)]
    assert log.head == SEALED
    assert sender.acked == len(sender.placed)


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.booleans()), max_size=30))
def test_an_appender_of_a_shared_stream_takes_no_other_s_entry_for_its_own(
    tries: list[tuple[int, bool, bool]],
) -> None:
    """However two appenders of one epoch race, an entry that counts as done is the appender's own (SAFE-1)."""
    log = Log()
    ends = [SharedAppender(KEYS, 1, OPENED, frame_bytes=1) for _ in range(2)]
    for index, arrives, is_answered in tries:
        mine = ends[index]
        [append] = mine.place_audio(bytes([index]) * 5, mine.head)
        [answer] = log.append([append]) if arrives else [UNKNOWN]
        outcome = mine.judge(answer if is_answered else UNKNOWN, append.position)
        assert outcome in {Outcome.DONE, Outcome.MOVED, Outcome.UNKNOWN}
        if outcome is Outcome.DONE:
            assert log.entries[-1] is append
            mine.head = append.position
        elif outcome is Outcome.MOVED:
            mine.head = answer.head


@pytest.mark.parametrize(
    ("answer", "exclusive", "shared"),
    [
        (Appended(Code.OK), Outcome.DONE, Outcome.DONE),
        (UNKNOWN, Outcome.UNKNOWN, Outcome.UNKNOWN),
        (Appended(Code.MISPLACED, 2, AT), Outcome.DONE, Outcome.MOVED),
        (Appended(Code.MISPLACED, 2, BEHIND), Outcome.DONE, Outcome.MOVED),
        (Appended(Code.MISPLACED, 2, BEFORE), Outcome.MOVED, Outcome.MOVED),
        (Appended(Code.MISPLACED, 3, AT), Outcome.MOVED, Outcome.MOVED),
        (Appended(Code.SUPERSEDED, 3, AT), Outcome.REFUSED, Outcome.MOVED),
        (Appended(Code.SUPERSEDED, 1, AT), Outcome.FORGOTTEN, Outcome.MOVED),
        (Appended(Code.SEALED, 2, SEALED), Outcome.REFUSED, Outcome.REFUSED),
        (Appended(Code.GONE), Outcome.REFUSED, Outcome.REFUSED),
        (Appended(Code.BROKEN), Outcome.REFUSED, Outcome.REFUSED),
    ],
)
def test_each_answer_has_one_outcome(answer: Appended, exclusive: Outcome, shared: Outcome) -> None:
    """An entry at 100-0 under epoch 2 has the outcome of the table, by code, epoch and head."""
    assert Appender(KEYS, 2, OPENED, frame_bytes=1).judge(answer, AT) is exclusive
    assert SharedAppender(KEYS, 2, OPENED, frame_bytes=1).judge(answer, AT) is shared


def test_only_a_written_entry_counts_as_done() -> None:
    """OK, and a head at or past the entry, count as done; nothing else does."""
    assert counts_as_done(Appended(Code.OK), AT)
    assert counts_as_done(Appended(Code.MISPLACED, 1, AT), AT)
    assert not counts_as_done(Appended(Code.MISPLACED, 1, BEFORE), AT)
    assert not counts_as_done(Appended(Code.SUPERSEDED, 1, BEHIND), AT)


@given(st.integers(0, 3 * CHUNK_BYTES), st.sampled_from([1, 2, 4]), st.integers(0, 1000), st.integers(0, 1000))
def test_audio_is_cut_into_whole_frames(size: int, frame_bytes: int, back: int, start: int) -> None:
    """Entries hold whole frames in order, none is too large, and each follows the one before it."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    appender = Appender(KEYS, 7, OPENED, frame_bytes=frame_bytes)
    after, at = Position(max(0, start - back), 1), Position(start, 2)
    appends = appender.place_audio(data, after, at)
    assert b"".join(one.payload for one in appends) == data[: size - size % frame_bytes]
    for one in appends:
        assert 0 < len(one.payload) <= CHUNK_BYTES
        start += len(one.payload) // frame_bytes
        assert one == Append(KEYS, 7, after, Position(start, 0), one.payload, is_audio=True)
        after = one.position


def test_control_events_and_the_end_are_placed() -> None:
    """A control event comes behind the audio's end, the seal last, with the offset at which the audio ended."""
    appender = Appender(KEYS, 7, OPENED, frame_bytes=2)
    event = appender.place_event(Finalized(), AT)
    assert (event.after, event.position, event.is_audio) == (AT, Position(100, 1), False)
    assert decode_audio_event(event.payload) == Finalized()
    assert appender.place_event(Finalized(), BEFORE, AT)[2:4] == (BEFORE, Position(100, 1))
    seal = appender.place_seal("stop", event.position, event.position, "why")
    assert (seal.after, seal.position, seal.is_audio) == (Position(100, 1), SEALED, False)
    assert decode_audio_event(seal.payload) == SessionSealed(reason="stop", offset_samples=100, detail="why")
