"""Two connections of one client, a network that loses requests and answers, and the log between them."""

from collections import deque
from dataclasses import dataclass, field
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.log import Append, Code
from eventlog.positions import OPENED, Position
from tests.integration.eventlog.stage import TOKEN, Stage

session_numbers = count()


def pcm_of(first: int, end: int, epoch: int) -> bytes:
    """Stereo samples that encode their place in the audio and the connection that sent them."""
    return b"".join((n % 65_536).to_bytes(2, "little") + epoch.to_bytes(2, "little") for n in range(first, end))


@dataclass
class Connection:
    """One connection: sends in order, keeps unacked audio, and follows the log's answers alone."""

    stage: Stage
    session_id: str
    epoch: int
    head: Position
    waiting: deque[Append] = field(default_factory=deque)
    acked: list[tuple[int, int, int]] = field(default_factory=list)
    superseded: bool = False

    def speak(self, samples: int) -> None:
        """Adds the client's next samples."""
        after = self.waiting[-1].position if self.waiting else self.head
        position = after.advanced(samples)
        payload = pcm_of(after.offset, position.offset, self.epoch)
        keys = self.stage.keys(self.session_id)
        self.waiting.append(Append(keys, self.epoch, after, position, payload, is_audio=True))

    async def flush(self, arriving: list[bool], *, answered: bool) -> None:
        """Sends everything queued; only some of it arrives, and perhaps no answer comes back."""
        fates = arriving + [True] * len(self.waiting)
        sent = [one for one, arrives in zip(self.waiting, fates, strict=False) if arrives]
        answers = await self.stage.log.append(sent)
        if not answered:
            return
        for one, answer in zip(sent, answers, strict=True):
            if answer.code == Code.SUPERSEDED:
                self.superseded = True
                return
            assert answer.code in (Code.OK, Code.MISPLACED)
            if answer.code == Code.OK or answer.head >= one.position:
                self.ack(one.position)

    def ack(self, upto: Position) -> None:
        """Removes from the queue the audio that the log has."""
        while self.waiting and self.waiting[0].position <= upto:
            one = self.waiting.popleft()
            self.acked.append((one.after.offset, one.position.offset, self.epoch))
            self.head = one.position


steps = st.one_of(
    st.tuples(st.just("speak"), st.integers(0, 1), st.integers(1, 50)),
    st.tuples(st.just("flush"), st.integers(0, 1), st.lists(st.booleans(), max_size=4), st.booleans()),
    st.tuples(st.just("resume"), st.integers(0, 1)),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(steps, max_size=40))
async def test_lost_calls_leave_no_hole(single: Stage, steps: list[tuple[object, ...]]) -> None:
    """With any lost calls and overlapping connections, the log has all acked audio without a gap (SAFE-1)."""
    session_id = f"s{next(session_numbers)}"
    keys = await single.opened(session_id)
    first = Connection(single, session_id, 1, OPENED)
    ever, ends = [first], [first, first]
    for step in steps:
        match step:
            case ("speak", int(end), int(samples)):
                ends[end].speak(samples)
            case ("flush", int(end), list(arriving), bool(answered)):
                await ends[end].flush(arriving, answered=answered)
            case ("resume", int(end)):
                opened = await single.log.resume(keys, TOKEN)
                ends[end] = Connection(single, session_id, opened.epoch, opened.head)
                ever.append(ends[end])
    for connection in ever:
        await connection.flush([], answered=True)
    newest = ever[-1]
    assert not newest.waiting
    assert all(connection.superseded or not connection.waiting for connection in ever)
    await assert_complete(single, session_id, ever)


async def assert_complete(stage: Stage, session_id: str, ever: list[Connection]) -> None:
    """The stream is the client's audio from its start without a gap, and each acked piece is there as it was sent."""
    entries = await stage.entries(stage.keys(session_id), OPENED)
    audio, end = bytearray(), 0
    for entry in entries:
        assert entry.pcm is not None
        assert entry.position == (end + len(entry.pcm) // 4, 0)
        audio += entry.pcm
        end = entry.position.offset
    samples = [(audio[n : n + 2], int.from_bytes(audio[n + 2 : n + 4], "little")) for n in range(0, len(audio), 4)]
    assert [int.from_bytes(value, "little") for value, _ in samples] == list(range(end))
    assert [epoch for _, epoch in samples] == sorted(epoch for _, epoch in samples)
    for connection in ever:
        for first, last, epoch in connection.acked:
            assert {found for _, found in samples[first:last]} == {epoch}
