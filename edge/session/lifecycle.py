"""The state machine of a session as one connection sees it: one table, no input or output."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """The state of a session."""

    CREATED = "created"
    """Opened in the log; no audio yet."""
    ACTIVE = "active"
    """Audio arrives."""
    CLOSING = "closing"
    """The end is requested; finals and the transcript are still to come."""
    CLOSED = "closed"
    """Over, for this connection."""


class Input(enum.StrEnum):
    """An input of the state machine."""

    AUDIO = "audio"
    FINALIZE = "finalize"
    CONFIGURE = "configure"
    KEEPALIVE = "keepalive"
    STOP = "stop"
    ENDED = "ended"
    """The session was ended elsewhere: idle, deleted, failed."""
    FINISHED = "finished"
    """The client has every message of the session."""
    DISCONNECTED = "disconnected"
    """The connection is gone; the session itself stays and can be resumed."""


class Step(NamedTuple):
    """The transition that an input causes."""

    state: State
    accepted: bool
    """False: the client gets `session_closing`, and nothing else happens."""


TABLE: dict[tuple[State, Input], Step] = {
    (State.CREATED, Input.AUDIO): Step(State.ACTIVE, accepted=True),
    (State.CREATED, Input.FINALIZE): Step(State.CREATED, accepted=True),
    (State.CREATED, Input.CONFIGURE): Step(State.CREATED, accepted=True),
    (State.CREATED, Input.KEEPALIVE): Step(State.CREATED, accepted=True),
    (State.CREATED, Input.STOP): Step(State.CLOSING, accepted=True),
    (State.CREATED, Input.ENDED): Step(State.CLOSING, accepted=True),
    (State.CREATED, Input.DISCONNECTED): Step(State.CLOSED, accepted=True),
    (State.ACTIVE, Input.AUDIO): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.FINALIZE): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.CONFIGURE): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.KEEPALIVE): Step(State.ACTIVE, accepted=True),
    (State.ACTIVE, Input.STOP): Step(State.CLOSING, accepted=True),
    (State.ACTIVE, Input.ENDED): Step(State.CLOSING, accepted=True),
    (State.ACTIVE, Input.DISCONNECTED): Step(State.CLOSED, accepted=True),
    (State.CLOSING, Input.AUDIO): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.FINALIZE): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.CONFIGURE): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.KEEPALIVE): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.STOP): Step(State.CLOSING, accepted=False),
    (State.CLOSING, Input.ENDED): Step(State.CLOSING, accepted=True),
    (State.CLOSING, Input.FINISHED): Step(State.CLOSED, accepted=True),
    (State.CLOSING, Input.DISCONNECTED): Step(State.CLOSED, accepted=True),
}


def step(state: State, given: Input) -> Step:
    """Return where `given` leads from `state`; an input that the table lacks is not accepted and changes nothing."""
    return TABLE.get((state, given), Step(state, accepted=False))


def render_diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, given), (following, accepted) in TABLE.items():
        label = given.value if accepted else f"{given.value} (session_closing)"
        arrows.setdefault((state, following), []).append(label)
    lines = ["stateDiagram-v2", "    [*] --> created"]
    lines += [f"    {state} --> {following}: {', '.join(labels)}" for (state, following), labels in arrows.items()]
    return "\n".join([*lines, "    closed --> [*]"])
