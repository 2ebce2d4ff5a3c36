"""Facts of made-up runs, written as a commit writes them, or with a part of that left out."""

import uuid
from collections.abc import Iterable, Sequence

import msgspec

from eventlog.codec import UndecodableEventError, decode_fact, encode
from eventlog.events import Fact, SessionEnded, SessionOpened, UtteranceFinal, Word
from eventlog.keys import Keys, RunKeys
from eventlog.positions import OPENED, SEALED, Position
from eventlog.projection.projection_log import UNDECODABLE, RunFacts
from eventlog.redis.server import Server

RATE_HZ = 16_000


def a_run(server: Server, run: str = "live") -> RunKeys:
    """The keys of a run that nothing has been written for."""
    return server.keys.of(str(uuid.uuid4())).run(run)


def keys_of(session_id: str) -> RunKeys:
    """The keys of a session's live run, without any server."""
    return Keys(64).of(session_id).run()


def opened(keys: RunKeys, *, opened_ms: int = 1_700_000_000_000) -> tuple[Position, Fact]:
    """The first fact of a run."""
    return OPENED, SessionOpened(
        session_id=keys.session_id, run=keys.run, sample_rate_hz=RATE_HZ, channels=1, language="en", engine="mock",
        tenant_id="tenant", opened_ms=opened_ms,
    )


def final(number: int, text: str | None = None) -> tuple[Position, Fact]:
    """Utterance `number`, two seconds long."""
    start = number * 2 * RATE_HZ
    return Position(number + 1, 0), UtteranceFinal(
        utterance=number, channel=0, start_samples=start, end_samples=start + RATE_HZ, decided_samples=start + 24_000,
        sample_rate_hz=RATE_HZ, text=text or f"words {number}.", confidence=0.93, speaker="1",
        committed_ms=1_700_000_000_000 + number,
    )


def with_words(fact: Fact) -> UtteranceFinal:
    """The final with its words, evenly over its time, as a recogniser that gives times makes it."""
    assert isinstance(fact, UtteranceFinal)
    texts, span = fact.text.split(), fact.end_samples - fact.start_samples
    words = tuple(
        Word(text, fact.start_samples + span * place // len(texts),
             fact.start_samples + span * (place + 1) // len(texts), 0.9)
        for place, text in enumerate(texts)
    )  # fmt: skip
    return msgspec.structs.replace(fact, words=words, language="en")


def ended(count: int, *, ended_ms: int = 1_700_000_100_000) -> tuple[Position, Fact]:
    """The last fact of a run with `count` finals."""
    return SEALED, SessionEnded(
        reason="stop", audio_samples=count * 2 * RATE_HZ, utterances=count, sample_rate_hz=RATE_HZ, ended_ms=ended_ms,
    )


def conversation(keys: RunKeys, count: int) -> list[tuple[Position, Fact]]:
    """All facts of a run with `count` finals."""
    return [opened(keys), *(final(number) for number in range(count)), ended(count)]


def pulled(keys: RunKeys, after: Position, stored: Sequence[tuple[Position, bytes]]) -> RunFacts:
    """What a pull makes of facts that are stored after a position."""
    facts: list[tuple[Position, Fact]] = []
    undecodable: list[tuple[Position, str]] = []
    for position, data in stored:
        try:
            facts.append((position, decode_fact(data)))
        except UndecodableEventError:
            undecodable.append((position, UNDECODABLE))
    return RunFacts(keys, after, facts, undecodable)


async def write(
    server: Server, keys: RunKeys, facts: Iterable[tuple[Position, Fact | bytes]], *, with_notice: bool = True,
) -> None:
    """Append facts; without notice it is as if every notice had been lost."""
    commands: list[tuple[str | bytes | int, ...]] = [
        ("XADD", keys.transcript, str(position), "fact", fact if isinstance(fact, bytes) else encode(fact))
        for position, fact in facts
    ]
    commands += [("EXPIRE", keys.transcript, 86_400), ("ZADD", keys.partition.index, 1, keys.member)]
    if with_notice:
        commands += notice(keys)
    checked(await server.execute_many(commands))


def notice(keys: RunKeys) -> list[tuple[str, ...]]:
    """The commands that say that a run has news."""
    return [
        ("XADD", keys.partition.changes, "*", "run", keys.member),
        ("SPUBLISH", keys.partition.changes_wakeup, keys.member),
    ]


def checked(answers: Sequence[object]) -> Sequence[object]:
    """The answers, once none of them is an error."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
