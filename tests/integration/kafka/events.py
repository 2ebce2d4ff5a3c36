"""Events as the forwarder hands them to a sink."""

import uuid
from collections.abc import Sequence

import msgspec

from eventlog.events import Batch, Fact, SessionEnded, SessionOpened, UtteranceFinal
from eventlog.keys import RunKeys
from eventlog.positions import Position
from projections.integration_events import Event, make_event
from projections.kafka import Kafka
from tests.integration.projections import facts

TENANT = "0b1f8a52-5f0e-4a45-9a6c-0d6a4b1b9c11"


def new_run() -> RunKeys:
    """The keys of a new session's live run."""
    return facts.keys_of(str(uuid.uuid4()))


def batch(keys: RunKeys, count: int, *, failed: bool = False) -> list[tuple[Position, Fact]]:
    """All facts of a recorded file with `count` utterances."""
    opened, *said, (sealed, ended) = facts.conversation(keys, count)
    assert isinstance(opened[1], SessionOpened)
    assert isinstance(ended, SessionEnded)
    recorded = msgspec.structs.replace(opened[1], batch=Batch(user_id="ana"), tenant_id=TENANT)
    if failed:
        ended = msgspec.structs.replace(ended, reason="failed", detail="no audio in it")
    return [(opened[0], recorded), *said, (sealed, ended)]


def events_of(
    sink: Kafka, keys: RunKeys, run: Sequence[tuple[Position, Fact]], *, words: bool = False
) -> list[Event]:
    """The events that `sink` gets of a run with these facts."""
    opened = run[0][1]
    assert isinstance(opened, SessionOpened)
    finals = [fact for _, fact in run if isinstance(fact, UtteranceFinal)]
    return [
        make_event(kind, keys, opened, (position, fact), finals, with_words=words)
        for position, fact in run for kind in sink.kinds(opened, fact)
    ]
