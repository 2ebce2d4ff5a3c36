"""Words of finals, wherever a transcript is read."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from eventlog.events import UtteranceFinal, Word
from eventlog.readmodel.documents import encode_final
from eventlog.readmodel.runs import read_finals
from eventlog.readmodel.views import read_document, read_list
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.test_sessions import ask
from tests.integration.projections.facts import ended, final
from tests.support.edge_clients import open_session, projecting, transcript_of, write_facts
from tests.support.speech import PCM, SECOND, chunks, client_of, speech

UTTERANCES = 2


@pytest.fixture
async def projected(redis_url: str) -> AsyncIterator[None]:
    """All projections, and no worker."""
    async with projecting(redis_url):
        yield


def decoded(final: Any) -> Any:  # noqa: ANN401 - any JSON
    """A listed final as JSON gives it."""
    return msgspec.json.decode(encode_final(final))


def check_words(finals: list[dict[str, Any]]) -> None:
    """Each final's words are its text, in order, within it, each no earlier than the one before."""
    assert len(finals) == UTTERANCES
    for one in finals:
        words = one["words"]
        assert [list(word) for word in words] == [["text", "start", "end", "confidence"]] * len(words)
        assert " ".join(word["text"] for word in words) == one["text"]
        assert one["start"] <= words[0]["start"] < words[-1]["end"] <= one["end"]
        assert all(word["start"] < word["end"] <= other["start"] for word, other in pairwise(words))
        assert all(0 <= word["confidence"] <= 1 for word in words)
        assert one["language"] == "en"
    assert finals[1]["words"][0]["start"] > finals[0]["words"][-1]["end"]


@pytest.fixture
async def edge(redis_url: str) -> AsyncIterator[Replica]:
    """An edge whose sessions end once all finals are there."""
    async with replica(redis_url) as running:
        yield running


@pytest.mark.usefixtures("path")
async def test_a_final_has_the_same_words_everywhere(edge: Replica) -> None:
    """Socket, event stream, List, document, export and batch result give each final the same words (WORD-3)."""
    async with edge.connect() as speaker:
        session_id = (await speaker.next())["session_id"]
        async with transcript_of(edge, session_id) as listener:
            for chunk in chunks(speech(UTTERANCES)):
                await speaker.send(chunk)
            await speaker.send("stop")
            await speaker.until("session_end")
            streamed = [block.data for block in await listener.all() if block.kind == "final"]
    finals = speaker.of("final")
    check_words(finals)
    assert streamed == finals
    keys, server = edge.core.server.keys.of(session_id).run(), edge.core.server
    document = await read_document(server, keys)
    assert document is not None
    assert [decoded(one) for one in await read_list(server, keys)] == finals
    assert [decoded(one) for one in document.utterances] == finals
    exported = (await ask(edge, f"/v1/sessions/{session_id}/transcript")).json()
    assert exported["utterances"] == finals
    segments = (await ask(edge, f"/batch/{session_id}")).json()["segments"]
    assert [one["words"] for one in segments] == [one["words"] for one in finals]
    assert [one["language"] for one in segments] == ["en"] * UTTERANCES


@pytest.mark.usefixtures("path")
async def test_answers_to_chunks_have_the_words_of_finals(edge: Replica) -> None:
    """Results at once have the words of finals, and none of an utterance that is still open (WORD-3)."""
    audio = speech(UTTERANCES)
    async with client_of(edge) as client:
        whole = (await client.post("/live/transcribe", content=audio, headers=PCM)).json()["results"]
        check_words(whole)
        started = await client.post("/live/start", json={"encoding": "linear16"})
        session_id = started.json()["session_id"]
        answer = await client.post(
            "/live/transcribe", files={"audio_file": audio[: 3 * SECOND]}, data={"session_id": session_id}
        )
    final, provisional = answer.json()["results"]
    assert final["words"] == whole[0]["words"]
    assert provisional["provisional"]
    assert provisional.keys() == final.keys() - {"words", "language"}


@pytest.mark.usefixtures("projected")
async def test_options_change_published_texts_alone(edge: Replica) -> None:
    """Numbers are digits and profanities masked in feed, List, document and export; the facts keep them (WORD-8)."""
    keys, server = await open_session(edge), edge.core.server
    text = "I have twenty three fucking cats."
    words = tuple(
        Word(word, 1_600 * place, 1_600 * (place + 1), 0.9) for place, word in enumerate(text.split())
    )
    position, fact = final(0, text)
    assert isinstance(fact, UtteranceFinal)
    fact = msgspec.structs.replace(fact, words=words, language="en", numerals=True, profanity_filter=True)
    async with transcript_of(edge, keys.session_id) as listener:
        await write_facts(edge, keys, [(position, fact), ended(1)])
        first, last = [block.data for block in await listener.all()]
    assert first["text"] == last["transcript"] == "I have 23 f*** cats."
    assert [word["text"] for word in first["words"]] == first["text"].split()
    assert (first["words"][2]["start"], first["words"][2]["end"]) == (0.2, 0.4)
    document = await read_document(server, keys)
    assert document is not None
    assert (document.transcript, document.cleaned) == (first["text"], first["text"])
    assert [decoded(one) for one in await read_list(server, keys)] == [first]
    exported = await ask(edge, f"/v1/sessions/{keys.session_id}/transcript.srt")
    assert "I have 23 f*** cats." in exported.text
    kept = await read_finals(server, keys)
    assert kept is not None
    assert [one.text for one in kept.finals] == [text]
