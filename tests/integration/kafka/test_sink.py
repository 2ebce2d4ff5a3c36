import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import msgspec
import pytest
from aiokafka.errors import ClusterAuthorizationFailedError  # type: ignore[import-untyped]

from eventlog.events import SessionOpened, UtteranceFinal
from projections.forwarding.sink import Outcome, Result
from projections.integration_events import Event, drop_words
from projections.kafka import Kafka
from projections.kafka.access import Endpoint
from projections.kafka.sink import KafkaMissingError
from tests.integration.kafka.brokers import Brokers, Found
from tests.integration.kafka.events import TENANT, batch, events_of, new_run
from tests.integration.kafka.proxy import Proxy
from tests.integration.projections import facts
from tests.support.tree import ROOT

TRANSCRIPTS, BATCHES = "stenolog.transcripts", "stenolog.batches"
UNUSED = "kafka://127.0.0.1:1"
"""Port 1 refuses at once."""

Sinks = Callable[..., Kafka]


@pytest.fixture
async def sinks() -> AsyncIterator[Sinks]:
    """Makes sinks, which are stopped in the end."""
    made: list[Kafka] = []

    def make(url: str, **options: float) -> Kafka:
        made.append(Kafka(url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for sink in made:
        await sink.stop()


def outcomes(results: Sequence[Result]) -> set[Outcome]:
    """The set of outcomes."""
    return {result.outcome for result in results}


def at_least(count: int) -> Callable[[list[Found]], bool]:
    """Whether so many records were read."""
    return lambda found: len(found) >= count


def has_all(events: Sequence[Event]) -> Callable[[list[Found]], bool]:
    """Whether each of these events was read."""
    wanted = {one.event_id for one in events}
    return lambda found: wanted <= {one.headers["event_id"] for one in found}


def first_times(found: Sequence[Found], key: str) -> list[str]:
    """The ids of a session's events in the order in which they first came."""
    return list(dict.fromkeys(one.headers["event_id"] for one in found if one.key == key))


async def sent(sink: Kafka, events: Sequence[Event], most_calls: int = 10) -> None:
    """Hand events over again and again until all are sent, as the forwarder does."""
    for _ in range(most_calls):
        if outcomes(await sink.send(events)) == {Outcome.SENT}:
            return
    raise AssertionError("never sent")


async def test_utterances_and_the_end_come_in_order_with_their_headers(brokers: Brokers, sinks: Sinks) -> None:
    """BATCH-10: each utterance and the end of a session is a record keyed by it, in order, its id, type, version and tenant as headers."""  # noqa: E501
    sink, keys = sinks(brokers.url), new_run()
    events = events_of(sink, keys, facts.conversation(keys, 3))
    assert await sink.send(events) == [Result(Outcome.SENT)] * 4
    found = brokers.read(TRANSCRIPTS, until=at_least(4))
    assert [one.headers for one in found] == [
        {"event_id": one.event_id, "event_type": one.kind, "event_version": "1.0", "tenant_id": "tenant"}
        for one in events
    ]
    assert [msgspec.json.decode(one.value) for one in found] == [one.body for one in events]
    assert {one.key for one in found} == {keys.session_id}
    assert len({one.partition for one in found}) == 1


@pytest.mark.parametrize(("failed", "kind"), [(False, "BatchProcessingCompleted"), (True, "BatchProcessingFailed")])
async def test_the_end_of_a_recorded_file_goes_to_its_own_topic(
    brokers: Brokers, sinks: Sinks, kind: str, *, failed: bool,
) -> None:
    """BATCH-10: a recorded file's completion or failure is one record of `stenolog.batches`, the body as everywhere."""
    sink, keys = sinks(brokers.url), new_run()
    events = events_of(sink, keys, batch(keys, 2, failed=failed))
    await sent(sink, events)
    (found,) = brokers.read(BATCHES, until=at_least(1))
    assert msgspec.json.decode(found.value) == events[-1].body
    assert (found.headers["event_type"], found.headers["tenant_id"]) == (kind, TENANT)
    assert len(brokers.read(TRANSCRIPTS, until=at_least(3))) == 3


async def test_a_repeated_event_is_the_same(brokers: Brokers, sinks: Sinks) -> None:
    """BATCH-10: an event that is handed over again by another process has the same id and the same bytes."""
    keys = new_run()
    for _ in range(2):
        sink = sinks(brokers.url)
        await sent(sink, events_of(sink, keys, facts.conversation(keys, 1)))
    first, end, again, end_again = brokers.read(TRANSCRIPTS, until=at_least(4))
    assert (first, end) == (again, end_again)


async def test_sessions_in_one_call_keep_their_orders(brokers: Brokers, sinks: Sinks) -> None:
    """Each of many sessions whose events are mixed in one call is in order on its partition."""
    sink, runs = sinks(brokers.url), [new_run() for _ in range(20)]
    each = [events_of(sink, keys, facts.conversation(keys, 10)) for keys in runs]
    mixed = [one for one in chain.from_iterable(zip_longest(*each)) if one is not None]
    await sent(sink, mixed)
    found = brokers.read(TRANSCRIPTS, until=at_least(len(mixed)))
    for keys, events in zip(runs, each, strict=True):
        assert first_times(found, keys.session_id) == [one.event_id for one in events]


async def test_a_broker_that_hangs_delays_and_reorders_nothing(brokers: Brokers, sinks: Sinks) -> None:
    """BATCH-10: while a broker hangs, events are for later, the ones behind unsent; once it continues, all come in order without a restart."""  # noqa: E501
    sink, keys = sinks(brokers.url, send_s=1.0), new_run()
    events = events_of(sink, keys, facts.conversation(keys, 8))
    await sent(sink, events[:2])
    brokers.hang()
    first, *behind = await sink.send(events[2:])
    assert outcomes([first, *behind]) == {Outcome.RETRY}
    assert {result.reason for result in behind} == {"an earlier event of the session wasn't taken"}
    brokers.resume()
    await sent(sink, events[2:])
    found = brokers.read(TRANSCRIPTS, until=has_all(events))
    assert first_times(found, keys.session_id) == [one.event_id for one in events]


async def test_brokers_may_be_away_at_the_start(
    brokers: Brokers, sinks: Sinks, caplog: pytest.LogCaptureFixture,
) -> None:
    """Without brokers a start succeeds and events are for later, without a word per try; they go once one is there."""
    async with Proxy() as proxy:
        sink, keys = sinks(proxy.url), new_run()
        events = events_of(sink, keys, facts.conversation(keys, 1))
        await sink.start()
        for _ in range(3):
            away = Result(Outcome.RETRY, "no connection to Kafka: KafkaConnectionError")
            assert await sink.send(events) == [away, away]
        assert [one.getMessage() for one in caplog.records if one.levelno >= logging.INFO] == []
        proxy.target = brokers.port
        await sent(sink, events)
    assert len(brokers.read(TRANSCRIPTS, until=at_least(2))) == 2


async def test_it_only_writes(
    brokers: Brokers, sinks: Sinks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sink starts no consumer's thread and makes no files, though Faust would do both."""
    monkeypatch.chdir(tmp_path)
    before = threads()
    sink, keys = sinks(brokers.url), new_run()
    assert outcomes(await sink.send(events_of(sink, keys, facts.conversation(keys, 1)))) == {Outcome.SENT}
    assert threads() == before
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - no need of a thread for an empty directory


def threads() -> set[str]:
    """The living threads, less those of asyncio's own pool."""
    return {one.name for one in threading.enumerate() if not one.name.startswith("asyncio_")}


async def test_variables_of_other_programs_change_nothing(
    brokers: Brokers, sinks: Sinks, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables that Faust reads, and others as well, don't lead the sink to other brokers or weaken it."""
    monkeypatch.setenv("BROKER_URL", UNUSED)
    monkeypatch.setenv("PRODUCER_ACKS", "0")
    monkeypatch.setenv("PRODUCER_MAX_REQUEST_SIZE", "10")
    sink, keys = sinks(brokers.url), new_run()
    assert outcomes(await sink.send(events_of(sink, keys, facts.conversation(keys, 1)))) == {Outcome.SENT}


async def test_brokers_may_move(brokers: Brokers, sinks: Sinks) -> None:
    """Brokers that come back at other addresses are found by the name that is set, without a restart."""
    async with Proxy() as proxy:
        with Brokers() as former:
            proxy.target = former.port
            sink, keys = sinks(proxy.url, send_s=2.0), new_run()
            events = events_of(sink, keys, facts.conversation(keys, 2))
            await sent(sink, events[:1])
        proxy.target = brokers.port
        await sent(sink, events[1:])
    found = brokers.read(TRANSCRIPTS, until=at_least(2))
    assert first_times(found, keys.session_id) == [one.event_id for one in events[1:]]


async def test_brokers_without_idempotence_are_served_all_the_same(
    brokers: Brokers, sinks: Sinks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    """Where brokers refuse an idempotent producer, another one sends the events, with one warning."""
    from projections.kafka import publisher  # noqa: PLC0415 - Faust is heavy

    class Refused(publisher.Publisher):
        """Finds brokers whose answer the mock cluster can't be made to give."""

        def __init__(self, endpoint: Endpoint, *, idempotent: bool) -> None:
            super().__init__(endpoint, idempotent=idempotent)
            self.refused = idempotent

        async def start(self) -> None:
            await super().start()
            if self.refused:
                raise ClusterAuthorizationFailedError

    monkeypatch.setattr(publisher, "Publisher", Refused)
    sink, keys = sinks(brokers.url), new_run()
    events = events_of(sink, keys, facts.conversation(keys, 2))
    assert outcomes(await sink.send(events)) == {Outcome.SENT}
    await sink.stop()
    assert outcomes(await sink.send(events)) == {Outcome.SENT}
    assert len(brokers.read(TRANSCRIPTS, until=at_least(6))) == 6
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.INFO] == [
        "idempotent producer refused by the brokers; using a plain one",
    ]


async def test_a_record_that_is_too_large_holds_up_nothing(brokers: Brokers, sinks: Sinks) -> None:
    """An event above the size limit is dead-lettered with its reason and without its text, and the rest is sent."""
    sink, keys = sinks(brokers.url, most_bytes=1000), new_run()
    run = [facts.opened(keys), facts.final(0), facts.final(1, "secret " * 200), facts.final(2)]
    results = await sink.send(events_of(sink, keys, run))
    assert [result.outcome for result in results] == [Outcome.SENT, Outcome.REJECTED, Outcome.SENT]
    assert results[1].reason == "Kafka refused it: MessageSizeTooLargeError"
    assert len(brokers.read(TRANSCRIPTS, until=at_least(2))) == 2


async def test_words_are_left_out_before_a_record_is_too_large(brokers: Brokers, sinks: Sinks) -> None:
    """Records hold the words of the event; one of a recording that would be too large goes without (WORD-3)."""
    sink, keys = sinks(brokers.url, most_bytes=4000), new_run()
    run = batch(keys, 30)
    spoken = [(at, facts.with_words(fact) if isinstance(fact, UtteranceFinal) else fact) for at, fact in run]
    events = events_of(sink, keys, spoken, words=True)
    await sent(sink, events)
    (found,) = brokers.read(BATCHES, until=at_least(1))
    smaller = drop_words(events[-1])
    assert smaller is not None
    assert msgspec.json.decode(found.value) == smaller.body
    utterances = [msgspec.json.decode(one.value) for one in brokers.read(TRANSCRIPTS, until=at_least(31))]
    assert [one["words"] for one in utterances if "words" in one] == [
        list(one.body["words"]) for one in events[:30]
    ]


async def test_a_body_that_is_not_of_its_type_is_refused(brokers: Brokers, sinks: Sinks) -> None:
    """An event whose body lacks a field of its type goes nowhere, and the reason names the field."""
    sink, keys = sinks(brokers.url), new_run()
    event, end = events_of(sink, keys, facts.conversation(keys, 1))
    del event.body["speaker"]
    results = await sink.send([event, end])
    assert [result.outcome for result in results] == [Outcome.REJECTED, Outcome.SENT]
    assert "`speaker`" in results[0].reason


@pytest.mark.parametrize("failure", ["hangs", "is gone"])
async def test_stopping_waits_for_no_broker(failure: str, brokers: Brokers, sinks: Sinks) -> None:
    """A sink whose broker hangs or is gone stops within its bounds, and stopping it twice, or unused, does no harm."""
    sink, keys = sinks(brokers.url, send_s=0.5), new_run()
    await sink.stop()
    await sent(sink, events_of(sink, keys, facts.conversation(keys, 1)))
    if failure == "hangs":
        brokers.hang()
    else:
        brokers.end()
    sending: Awaitable[Sequence[Result]] = sink.send(events_of(sink, keys, facts.conversation(keys, 1)))
    assert outcomes(await sending) == {Outcome.RETRY}
    await sink.stop()
    await sink.stop()


async def test_a_call_that_is_cut_short_leaves_nothing(
    brokers: Brokers, sinks: Sinks, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sink that is stopped in the middle of a call, its broker hanging, stops within bounds and leaves no task."""
    from projections.kafka import publisher  # noqa: PLC0415 - Faust is heavy

    monkeypatch.setattr(publisher, "REQUEST_S", 120.0)  # so that waiting for it can't go unnoticed
    sink, keys = sinks(brokers.url), new_run()
    before = asyncio.all_tasks()
    events = events_of(sink, keys, facts.conversation(keys, 3))
    await sent(sink, events)
    brokers.hang()
    calls = [asyncio.ensure_future(sink.send(events)) for _ in range(2)]
    await asyncio.wait(calls, timeout=0.3)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(30):
        await sink.stop()
    assert asyncio.all_tasks() == before


async def test_nothing_said_is_logged(
    brokers: Brokers, sinks: Sinks, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:
    """BATCH-9: with every logger at its most talkative, neither sent nor failed events leave a word of a transcript."""
    caplog.set_level(logging.DEBUG)
    sink, keys = sinks(brokers.url, send_s=0.5), new_run()
    events = events_of(sink, keys, [facts.opened(keys), facts.final(0, "marzipan"), facts.final(1, "marzipan")])
    await sent(sink, events)
    brokers.end()
    for _ in range(2):
        results = await sink.send(events)
        assert outcomes(results) == {Outcome.RETRY}
    logged = " ".join([*(one.getMessage() + repr(one.__dict__) for one in caplog.records), *capfd.readouterr(),
                     *(result.reason for result in results)])
    assert "Kafka" in logged
    assert "marzipan" not in logged


def test_the_events_that_it_gets() -> None:
    """The sink gets every utterance and every end, and nothing else that a run holds."""
    keys, sink = new_run(), Kafka(UNUSED)
    (_, opened), (_, final), (_, ended) = facts.conversation(keys, 1)
    assert isinstance(opened, SessionOpened)
    assert isinstance(final, UtteranceFinal)
    assert [sink.kinds(opened, fact) for fact in (opened, final, ended)] == [
        (), ("TranscriptUtterance",), ("TranscriptEnded",),
    ]


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Faust the sink can't be made, and the error says what to install."""
    monkeypatch.delitem(sys.modules, "faust", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(KafkaMissingError, match=r"pip install 'stenolog\[kafka\]'"):
        Kafka(UNUSED)


def test_faust_is_imported_by_the_first_event() -> None:
    """Making the sink imports neither Faust nor its clients, which take a second."""
    code = "import sys; from projections.kafka import Kafka; Kafka('kafka://x'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"faust", "aiokafka", "mode"} & set(done.stdout.split()) == set()
