"""Options of sessions over real sockets and requests: pinned, changed, refused; and the events of speech."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from eventlog.codec import decode_audio_event
from eventlog.events import OptionsChanged, SessionStarted
from eventlog.positions import START, Position
from processor.recognisers import Clip
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import FRAME_SAMPLES, Client, Replica, frame, replica
from tests.integration.edge.test_pauses import events, speak, words
from tests.integration.edge.test_resume import resuming
from tests.support.deployment import Deployment, abandon
from tests.support.edge_clients import transcript_of
from tests.support.recognisers import HeldRecogniser
from tests.support.speech import PCM, client_of, refusal, speech, started
from tests.support.waiting import eventually_async

ALL_OPTIONS = (
    "language=de_AT&model=small&endpointing_ms=300&partial_interval_ms=500&term=Dashwood&term=Norland%20Park&"
    "prompt=A%20novel.&numerals=true&profanity_filter=true&speech_events=true"
)


class Recogniser(HeldRecogniser):
    """The mock recogniser, with a name that edges ask for, and abilities."""

    name = "mock"

    def __init__(self, *languages: str, model: str = "") -> None:
        """Know these languages; any if none is given."""
        super().__init__(is_open=True)
        self.languages = frozenset(languages)
        self.model = model

    @property
    def finals(self) -> list[Clip]:
        """All utterances that it recognised, without the partials."""
        return [clip for call in self.calls for clip in call if not clip.partial]


async def pinned(edge: Replica, session_id: str, *, upload: bool = False) -> SessionStarted:
    """The session's first event."""
    keys = edge.core.server.keys.of(session_id)
    stream = keys.upload if upload else keys
    [first, *_] = (await edge.log.read({stream: START}, max_bytes_each=1 << 20))[stream]
    found = decode_audio_event(first.event or b"")
    assert isinstance(found, SessionStarted)
    return found


def check_pinned(start: SessionStarted, told: dict[str, Any]) -> None:
    """Checks that all of ALL_OPTIONS stand in the session's first event, and that the client got them."""
    assert (start.language, start.model, start.segmenter["hangover_ms"]) == ("de-AT", "small", 300)
    assert (start.partial_interval_ms, start.terms, start.prompt) == (500, ("Dashwood", "Norland Park"), "A novel.")
    assert start.numerals
    assert start.profanity_filter
    assert start.speech_events
    assert told == {
        "sample_rate": start.sample_rate_hz, "encoding": start.encoding, "channels": start.channels,
        "layout": start.layout, "track": None, "language": "de-AT", "model": "small",
        "terms": ["Dashwood", "Norland Park"], "prompt": "A novel.", "endpointing_ms": 300,
        "partial_interval_ms": 500, "numerals": True, "profanity_filter": True, "speech_events": True,
    }  # fmt: skip


async def test_a_socket_pins_all_options(edge: Replica) -> None:
    """Every option of a handshake is pinned in the start event and stands in session_start, always (WORD-8)."""
    async with edge.connect(ALL_OPTIONS) as client:
        start = await client.next()
    check_pinned(await pinned(edge, start["session_id"]), start["options"])
    async with edge.connect(resuming(start)) as client:
        assert (await client.next())["options"] == start["options"]


async def test_a_session_by_requests_pins_all_options(edge: Replica) -> None:
    """Query string and JSON body of /live/start take the same options (WORD-8)."""
    body = {
        "language": "de_AT", "model": "small", "endpointing_ms": 300, "partial_interval_ms": 500,
        "terms": ["Dashwood", "Norland Park"], "prompt": "A novel.", "numerals": True, "profanity_filter": True,
        "speech_events": True,
    }  # fmt: skip
    async with client_of(edge) as client:
        for answer in (
            await client.post("/live/start", json=body), await client.post(f"/live/start?{ALL_OPTIONS}"),
        ):  # fmt: skip
            assert answer.status_code == 201, answer.text
            found = answer.json()
            check_pinned(await pinned(edge, found["session_id"], upload=True), found["options"])


@pytest.mark.parametrize(("query", "channels", "layout"), [
    ("channels=split", 2, "split"), ("channels=2", 2, "split"), ("channels=1", 1, "auto"),
    ("encoding=container&channels=mix", 0, "mix"), ("encoding=container", 0, "auto"),
    ("encoding=container&channels=2", 2, "split"), ("encoding=container&channels=auto", 0, "auto"),
])  # fmt: skip
async def test_the_layout_of_channels_is_pinned(edge: Replica, query: str, channels: int, layout: str) -> None:
    """What becomes of two channels is the client's choice, or left to what they hold (MEDIA-4)."""
    async with edge.connect(query) as client:
        start = await client.next()
        found = await pinned(edge, start["session_id"], upload="container" in query)
        assert (found.channels, found.layout) == (channels, layout)


@pytest.mark.usefixtures("path")
async def test_empty_fields_of_a_form_are_not_given(redis_url: str) -> None:
    """A page's form with all its fields left empty is a plain recording (WORD-8)."""
    empty = dict.fromkeys(("channels", "hangover_ms", "endpointing_ms", "language", "terms", "prompt", "model"), "")
    async with replica(redis_url) as edge, client_of(edge) as client:
        for path, part in (("/v1/transcribe", "file"), ("/batch/process", "file"), ("/live/transcribe", "audio_file")):
            answer = await client.post(path, data=empty, files={part: ("a.pcm", speech(1), "audio/l16")})
            assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("path")
async def test_a_form_may_repeat_terms(redis_url: str) -> None:
    """Each field `term` of a form is a key term (WORD-6)."""
    async with replica(redis_url) as edge, client_of(edge) as client:
        form = {"term": ["Dashwood", "Barton, Devon"], "language": "en_US"}
        answer = await client.post("/batch/process", data=form, files={"file": ("a.pcm", speech(1), "audio/l16")})
        assert answer.status_code == 200, answer.text
        start = await pinned(edge, answer.json()["interaction_id"])
    assert (start.terms, start.language) == (("Dashwood", "Barton, Devon"), "en-US")


async def configure(client: Client, **options: Any) -> None:  # noqa: ANN401 - any option
    """Changes options."""
    await client.send_text(json.dumps({"type": "configure", **options}))


async def test_a_change_stands_at_its_place_in_the_log(edge: Replica) -> None:
    """A configure is an event behind the audio that was sent before it, and before what follows (WORD-6)."""
    async with edge.connect() as client:
        start = await client.next()
        await client.send(frame())
        await configure(client, terms=["Elinor"], endpointing_ms=300)
        await client.send(frame(2))
        await client.acked(2 * FRAME_SAMPLES)
        found = [one for one in await events(edge, start["session_id"]) if isinstance(one[1], OptionsChanged)]
        assert found == [(Position(FRAME_SAMPLES, 1), OptionsChanged(terms=("Elinor",), hangover_ms=300))]


async def test_a_malformed_change_changes_nothing(edge: Replica) -> None:
    """A configure that can't be made gets an error that isn't fatal, and the session continues (WORD-6)."""
    async with edge.connect() as client:
        start = await client.next()
        await configure(client, model="large")
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("invalid_configuration", False)
        assert "model" in error["message"]
        await client.send(frame())
        await client.acked(FRAME_SAMPLES)
        assert await events(edge, start["session_id"]) == []


async def test_the_longest_change_fits(edge: Replica) -> None:
    """Terms and prompt at their bounds are taken, though a client escapes every character of them (WORD-6)."""
    terms = ["é" * 99 + chr(0x100 + number) for number in range(20)]
    async with edge.connect() as client:
        start = await client.next()
        await configure(client, terms=terms, prompt="é" * 1_000)
        await client.send(frame())
        await client.acked(FRAME_SAMPLES)
        [(_, changed)] = await events(edge, start["session_id"])
        assert changed == OptionsChanged(terms=tuple(terms), prompt="é" * 1_000)


@pytest.mark.parametrize("encoding", ["linear16", "container"])
async def test_a_request_changes_options(edge: Replica, encoding: str) -> None:
    """A client by requests changes options behind its audio so far, and gets where that ends (WORD-6)."""
    async with client_of(edge) as client:
        session_id = await started(client, encoding=encoding)
        await client.post(f"/live/{session_id}/audio", content=frame(), headers=PCM)
        answer = await client.patch(f"/live/{session_id}/options", json={"language": "fr_CA"})
        end = 2 * FRAME_SAMPLES if encoding == "container" else FRAME_SAMPLES
        assert (answer.status_code, answer.json()) == (200, {"session_id": session_id, "offset": end})
        found = await events(edge, session_id, upload=encoding == "container")
        assert found == [(Position(end, 1), OptionsChanged(language="fr-CA"))]
        for body in (b"", b"{}", b'{"model":"x"}', b"\xff"):
            answer = await client.patch(f"/live/{session_id}/options", content=body)
            assert refusal(answer) == (400, "invalid_configuration")
        await client.post(f"/live/{session_id}/stop")
        answer = await client.patch(f"/live/{session_id}/options", json={"language": "de"})
        assert refusal(answer) == (409, "session_ended")


async def test_a_request_changes_no_sockets_options(edge: Replica) -> None:
    """A socket's session is changed by its own connection alone, which relies on being the only one to append."""
    async with edge.connect() as client, client_of(edge) as http:
        start = await client.next()
        answer = await http.patch(f"/live/{start['session_id']}/options", json={"language": "de"})
        assert refusal(answer) == (409, "transport_mismatch")


async def test_changed_options_reach_the_recogniser_after_a_takeover_too(redis_url: str) -> None:
    """Each utterance is recognised with the options in force at its boundary, whichever worker does it (WORD-6)."""
    first, second = Recogniser(), Recogniser()
    async with behind_projections(redis_url), Deployment(redis_url) as deployment, replica(redis_url) as edge:
        worker = await deployment.started(first, lease_ms=500)
        async with edge.connect("language=en&terms=Dashwood") as client:
            await client.next()
            await client.send(words("0880", 1.5))
            await configure(client, language="de", terms=["Barton"], prompt="Hm.")
            await client.send("finalize")
            await client.until("final")
            await client.send(words("0880", 1.0))
            await client.send("finalize")
            await client.until("final")
            await client.send(words("0930", 1.0))
            await client.acked(16_000 * 7 // 2)
            await abandon(worker)
            await deployment.started(second, lease_ms=500)
            await client.send("finalize")
            await client.until("final")
        pinned_, changed = ("en", ("Dashwood",), ""), ("de", ("Barton",), "Hm.")
        assert options_of(first.finals) == [pinned_, changed]
        assert options_of(second.finals) == [changed]


def options_of(clips: Sequence[Clip]) -> list[tuple[str, tuple[str, ...], str]]:
    """The options that came with clips."""
    return [(clip.language, clip.terms, clip.prompt) for clip in clips]


@contextlib.asynccontextmanager
async def behind_projections(redis_url: str) -> AsyncIterator[None]:
    """The projections of `behind`, and a worker that has no room for any session."""
    async with behind(redis_url, capacity=0):
        yield


async def known(edge: Replica) -> None:
    """Returns when the edge knows a worker's abilities."""
    await eventually_async(lambda: edge.core.abilities._workers)


async def test_languages_and_models_that_no_worker_has_are_refused(redis_url: str) -> None:
    """A start that no living worker can do gets an error that names the offered ones, and opens nothing (WORD-2)."""
    async with Deployment(redis_url) as deployment, replica(redis_url) as edge, client_of(edge) as http:
        await deployment.started(Recogniser("en", model="tiny.en"))
        await known(edge)
        for query, code in (("language=de", "unsupported_language"), ("model=large", "unsupported_model")):
            async with edge.connect(query) as client:
                error = await client.next()
                assert (error["code"], error["fatal"]) == (code, True)
                assert error["message"].endswith("offered: en" if "language" in query else "offered: tiny.en")
                assert await client.closed() == 1008
            for path in ("/v1/transcribe", "/batch/process", "/live/start", "/live/transcribe"):
                answer = await http.post(f"{path}?{query}", content=b"" if "start" in path else speech(1))
                assert refusal(answer) == (400, code)
        async with edge.connect("language=en_US&model=tiny.en") as client:
            assert (await client.next())["type"] == "session_start"
            await configure(client, language="de")
            error = await client.until("error")
            assert (error["code"], error["fatal"]) == ("invalid_configuration", False)
            assert "offered: en" in error["message"]
        assert await edge.core.reservations.held() == 1


async def test_a_session_that_no_worker_can_do_ends_as_failed(redis_url: str) -> None:
    """Accepted while no worker was known, it is failed by the one that claims it, with the reason (WORD-2)."""
    async with replica(redis_url) as edge, edge.connect("language=de") as client, client_of(edge) as http:
        session_id = (await client.next())["session_id"]
        await client.send(words("0880", 1.5))
        await client.acked(24_000)
        recogniser = Recogniser("en", "fr")
        async with behind(redis_url, recogniser):
            error = await client.until("error")
            assert (error["code"], error["fatal"]) == ("unsupported_language", True)
            assert error["message"] == "language de is not offered; offered: en, fr"
            end = await client.until("session_end")
            assert (end["reason"], end["utterances"]) == ("failed", 0)
            assert await client.closed() == 1008
            answer = await http.get(f"/batch/{session_id}")
            assert refusal(answer) == (400, "unsupported_language")
        assert recogniser.calls == []


async def test_a_session_is_left_to_a_worker_that_can_do_it(redis_url: str) -> None:
    """Of workers with different models the one that has the language takes the session (WORD-2)."""
    german, english = Recogniser("de", "en"), Recogniser("en")
    async with behind(redis_url, english), Deployment(redis_url) as deployment, replica(redis_url) as edge:
        await deployment.started(german)
        await eventually_async(lambda: len(edge.core.abilities._workers) == 2)
        for _ in range(4):  # with even chances for each, one session could be the right worker's by luck
            async with edge.connect("language=de") as client:
                await client.next()
                await client.send(words("0880", 1.0))
                await client.send("stop")
                assert (await client.until("session_end"))["reason"] == "stop"
                assert len(client.of("final")) == 1
        assert [clip.language for clip in german.finals] == ["de"] * 4
        assert english.finals == []


@pytest.mark.usefixtures("path")
async def test_speech_is_announced_where_it_was_asked_for(redis_url: str) -> None:
    """With speech_events a socket and an event stream learn when speech begins and ends, and no others (WORD-8)."""
    async with replica(redis_url) as edge, edge.connect("speech_events=true") as client, edge.connect() as other:
        start = await client.next()
        async with transcript_of(edge, start["session_id"]) as stream:
            for one in (client, other):
                await speak(one, words("0880", 1.0))
                await one.send("finalize")
                await one.until("final")
            await client.until("utterance_end")
            for one in (client, other):
                await one.send("stop")
                await one.until("session_end")
            streamed = [(block.kind, block.data) for block in await stream.all() if block.kind not in {"partial", None}]
    [begun], [final], [end] = client.of("speech_started"), client.of("final"), client.of("utterance_end")
    order = [one["type"] for one in client.received if one["type"] in {"speech_started", "final", "utterance_end"}]
    assert order == ["speech_started", "final", "utterance_end"]
    assert begun == {"type": "speech_started", "start": final["start"], "channel": 0}
    last = final["words"][-1]["end"] if final.get("words") else final["end"]
    assert end == {"type": "utterance_end", "utterance": 0, "end": last, "channel": 0}
    assert streamed[:3] == [("speech_started", begun), ("final", final), ("utterance_end", end)]
    assert not {"speech_started", "utterance_end"} & {one["type"] for one in other.received}
