"""A session's life as one connection sees it: one table, no input or output."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """Where a session is in its life."""

    CREATED = "created"
    """Opened in the log; no audio yet."""
    ACTIVE = "active"
    """Audio comes."""
    CLOSING = "closing"
    """The end is asked for; finals and the transcript are still to come."""
    CLOSED = "closed"
    """Over, for this connection."""


class Input(enum.StrEnum):
    """What can happen to it."""

    AUDIO = "audio"
    FINALIZE = "finalize"
    KEEPALIVE = "keepalive"
    STOP = "stop"
    ENDED = "ended"
    """The session was ended elsewhere: idle, deleted, failed."""
    FINISHED = "finished"
    """Everything that was to be told has been told."""
    DISCONNECTED = "disconnected"
    """The connection is gone; the session itself stays and can be resumed."""


class Step(NamedTuple):
    """What an input leads to."""

    state: State
    accepted: bool
    """False: the client is told `session_closing`, and nothing else happens."""


TABLE: dict[tuple[State, Input], Step] = {
    (State.CREATED, Input.AUDIO): Step(State.ACTIVE, accepted=True),
    (State.CREATED, Input.FINALIZE): Step(State.CREATED, accepted=True),
    (State.CREATED, Input.KEEPALIVE): Step(State.CREATED, accepted=True),
    (State.CREATED, Input.STOP): Step(State.CLOSING, accepted=True),
    (State.CREATED, Input.ENDED): Step(State.CLOSING, accepted=True),
    (State.CREATED, Input.DISCONNECTED): Step(State.CLOSED, accepted=True),
    (State.ACTIVE, Input.AUDIO): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.FINALIZE): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.KEEPALIVE): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.STOP): Step(State.CLOSING, accepted=True),
    (State.ACTIVE, Input.ENDED): Step(State.CLOSING, accepted=True),
    (State.ACTIVE, Input.DISCONNECTED): Step(State.CLOSED, accepted=True),
    (State.CLOSING, Input.AUDIO): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.FINALIZE): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.KEEPALIVE): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.STOP): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.ENDED): Step(State.CLOSING, accepted=True),
    (State.CLOSING, Input.FINISHED): Step(State.CLOSED, accepted=True),
    (State.CLOSING, Input.DISCONNECTED): Step(State.CLOSED, accepted=True),
}


def step(state: State, happened: Input) -> Step:
    """Where `happened` leads from `state`; what the table leaves out changes nothing and is not accepted."""
    return TABLE.get((state, happened), Step(state, accepted=False))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, happened), (following, accepted) in TABLE.items():
        label = happened.value if accepted else f"{happened.value} (session_closing)"
        arrows.setdefault((state, following), []).append(label)
    lines = ["stateDiagram-v2", "    [*] --> created"]
    lines += [f"    {state} --> {following}: {', '.join(labels)}" for (state, following), labels in arrows.items()]
    return "\n".join([*lines, "    closed --> [*]"])
