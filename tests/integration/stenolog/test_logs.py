"""What the roles write to standard error."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.telemetry import tracing
from stenolog.logs import JsonFormatter, PlainFormatter
from tests.support.tree import ROOT

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
LATER = TRACEPARENT.replace("00-", "cc-", 1)


class Unspeakable:
    """An object that can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def line(message: object = "said", *args: object, **extra: object) -> dict[str, Any]:
    """A record of these as the JSON that a machine reads."""
    record = logging.makeLogRecord({"msg": message, "args": args, "levelname": "INFO", "name": "test", **extra})
    text = JsonFormatter("edge").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=8), st.characters(codec=None),
    st.text(st.characters(codec=None), max_size=8), st.sets(st.integers(), max_size=3),
    st.dictionaries(st.one_of(st.integers(), st.tuples(st.integers())), st.integers(), max_size=3),
    st.just(Unspeakable()), st.just(object()), st.just({"deep": [Unspeakable()]}),
)  # fmt: skip


@given(odd, st.text(st.characters(codec=None), max_size=8))
def test_every_record_is_one_line_of_json(value: object, message: str) -> None:
    """Whatever a record holds, it is one line of JSON that still says what happened and when (OPS-3)."""
    found = line(message, field=value)
    assert {"time", "level", "role", "logger", "event"} <= set(found)


@pytest.mark.parametrize(
    ("message", "arguments"), [("%d done", ("x",)), ("%s", ()), ("%(name)s", ({},)), ("100 %", (1,))]
)
def test_a_message_that_does_not_fit_is_logged_unchanged(message: str, arguments: tuple[object, ...]) -> None:
    """A log call whose arguments don't fit its message still makes a record."""
    assert message in line(message, *arguments)["event"]


def test_fields_do_not_hide_what_every_record_has() -> None:
    """A field called like one that every record has stands beside it."""
    found = line("said", time="noon", role="king")
    assert found["role"] == "edge"
    assert (found["extra_time"], found["extra_role"]) == ("noon", "king")


def test_errors_say_type_message_and_stack() -> None:
    """An error in a record has its type, its message and, if it was caught there, its stack (OPS-3)."""
    try:
        int("too odd")
    except ValueError as error:
        logged = line("failed", error=error)
        caught = line("failed", exc_info=sys.exc_info())
    assert logged["error_type"] == caught["error_type"] == "ValueError"
    assert "too odd" in logged["error"]
    assert logged["error"] == caught["error"]
    assert "test_errors_say_type_message_and_stack" in caught["stack"]
    assert line("failed", error=TimeoutError())["error"] == "TimeoutError"


def test_a_run_names_its_session() -> None:
    """A record about a run can be found by its session's id as well."""
    assert line(run="7d9f live")["session_id"] == "7d9f"


def test_records_carry_the_trace() -> None:
    """Records of a traced request carry the trace's id (OPS-3)."""
    token = tracing.current.set(TRACEPARENT)
    try:
        assert line()["trace_id"] == TRACE_ID
    finally:
        tracing.current.reset(token)
    assert "trace_id" not in line()


@pytest.mark.parametrize("header", [
    TRACEPARENT, TRACEPARENT + "-", TRACEPARENT.replace("00-", "ff-", 1), TRACEPARENT.upper(),
    "00-" + "0" * 32 + TRACEPARENT[35:], LATER + "-more", "", "x" * 4000, TRACEPARENT[:-3],
])  # fmt: skip
def test_only_well_formed_trace_contexts_are_taken(header: str) -> None:
    """A malformed W3C trace context counts as none, and what a later version of it appends is dropped."""
    wanted = {TRACEPARENT: TRACEPARENT, LATER + "-more": LATER}
    assert tracing.parse_traceparent(header) == wanted.get(header, "")


def test_a_person_reads_plain_lines() -> None:
    """On a terminal a record is a line with its fields, without a brace."""
    fields = {"run": "7d9f live", "odd": Unspeakable()}
    record = logging.makeLogRecord({"msg": "run taken", "levelname": "INFO", "levelno": 20, **fields})
    assert "run taken run=7d9f live odd=<Unspeakable> session_id=7d9f" in PlainFormatter("worker").format(record)


@pytest.mark.parametrize("dying", ["raise ValueError('boom')", (
    "import threading\ndef die(): raise ValueError('boom')\n"
    "one = threading.Thread(target=die)\none.start()\none.join()"
)])
def test_an_uncaught_error_is_a_record_as_well(dying: str) -> None:
    """An error that ends a process or a thread is logged as a record, not printed as bare text."""
    program = f"from stenolog import logs\nlogs.configure('worker', 'info')\n{dying}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    [found] = [json.loads(text) for text in done.stderr.splitlines()]
    assert (found["level"], found["error"], found["error_type"]) == ("critical", "boom", "ValueError")
    assert "stack" in found
