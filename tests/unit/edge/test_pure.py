"""The edge's pure parts: lifecycle, query string, control messages, outbox."""

import asyncio
import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.session.lifecycle import TABLE, Input, State, Step, render_diagram, step
from edge.session.parameters import Parameters, parse
from edge.websocket import messages
from edge.websocket.outbox import Outbox
from tests.support.tree import ROOT

DOCS = ROOT / "docs" / "websocket.md"


def test_every_state_is_reached_and_left() -> None:
    """Each state but the first is led to, and each but the last leads on (SESS-3)."""
    assert {reached.state for reached in TABLE.values()} == set(State)
    assert {state for state, _ in TABLE} == set(State) - {State.CLOSED}


def test_the_table_is_complete() -> None:
    """The table has every input of every state, but for a closed session's and for an end before it began (SESS-3)."""
    absent = {(state, happened) for state in State for happened in Input} - set(TABLE)
    impossible = {(State.CREATED, Input.FINISHED), (State.ACTIVE, Input.FINISHED)}
    assert absent == impossible | {(State.CLOSED, happened) for happened in Input}
    assert {step(*pair) for pair in absent} == {Step(state, accepted=False) for state in set(State) - {State.CLOSING}}


@given(st.lists(st.sampled_from(Input)))
def test_life_goes_forward(inputs: list[Input]) -> None:
    """Whatever happens in whatever order, a session never goes back to an earlier state (SESS-3)."""
    order, state = list(State), State.CREATED
    for happened in inputs:
        following = step(state, happened).state
        assert order.index(following) >= order.index(state)
        state = following


@pytest.mark.parametrize("late", [Input.AUDIO, Input.FINALIZE, Input.KEEPALIVE, Input.STOP])
def test_nothing_is_accepted_after_stop(late: Input) -> None:
    """After a stop the client's messages are refused, and the state stays (SESS-3)."""
    assert step(State.CLOSING, late) == Step(State.CLOSING, accepted=False)


def test_the_diagram_in_the_docs_is_current() -> None:
    """The documented diagram is the one made of the table."""
    assert render_diagram() in DOCS.read_text(encoding="utf-8")


def test_an_empty_query_leaves_everything_open() -> None:
    """Every parameter is optional."""
    assert parse(b"") == Parameters()


@given(st.binary(max_size=200))
def test_any_query_is_taken_or_refused(query: bytes) -> None:
    """No query string does anything but parse or give an error of the table (SAFE-4)."""
    with _raises_nothing_but(1008):
        parse(query)


@given(st.text(max_size=200) | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(str))
def test_any_text_is_taken_or_refused(text: str) -> None:
    """No text frame does anything but name a type or give an error that isn't fatal (SAFE-4)."""
    with _raises_nothing_but(0):
        assert messages.read_control(text).kind in messages.CONTROL_TYPES


@contextlib.contextmanager
def _raises_nothing_but(close: int) -> Iterator[None]:
    found = close
    try:
        yield
    except ApiError as error:
        found = error.error.close
    assert found == close


class Wire:
    """Takes what an outbox sends, as soon once it is open."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.open = asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Takes one message."""
        await self.open.wait()
        self.sent.append(message.get("text") or str(message.get("code")))


async def sent(outbox: Outbox, wire_: Wire) -> list[str]:
    """What the outbox sends until it is closed."""
    outbox.close(1000)
    writing = asyncio.create_task(outbox.run())
    wire_.open.set()
    await writing
    return wire_.sent


async def test_the_newest_replaces_what_it_overtakes() -> None:
    """Only the newest ack, and the newest partial of each channel, are sent."""
    wire_ = Wire()
    outbox = Outbox(wire_.send, lambda _: False, bound=8)
    for number in range(3):
        outbox.post_ack(number)
        outbox.post_partial(0, f"left {number}")
        outbox.post_partial(1, f"right {number}")
    assert await sent(outbox, wire_) == ['{"type":"ack","offset":2}', "left 2", "right 2", "1000"]


async def test_a_final_overtakes_partials_and_keeps_its_order() -> None:
    """Finals come in order, and a partial from before a final isn't sent after it."""
    wire_ = Wire()
    outbox = Outbox(wire_.send, lambda _: False, bound=8)
    outbox.post_partial(0, "early")
    assert all(outbox.post(text) for text in ("one", "two"))
    outbox.post_partial(0, "late")
    assert await sent(outbox, wire_) == ["one", "two", "late", "1000"]


async def test_the_outbox_is_bounded() -> None:
    """More messages than the bound are refused, but the last one always has room (SESS-10)."""
    wire_ = Wire()
    outbox = Outbox(wire_.send, lambda _: False, bound=2)
    assert [outbox.post(text) for text in "abc"] == [True, True, False]
    outbox.post_last("why")
    assert await sent(outbox, wire_) == ["a", "b", "why", "1000"]
