"""Words of finals, wherever a transcript is read."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from eventlog.readmodel.documents import encode_final
from eventlog.readmodel.views import read_document, read_list
from tests.integration.edge.replicas import Replica
from tests.integration.edge.test_sessions import ask
from tests.support.edge_clients import transcript_of
from tests.support.speech import PCM, SECOND, chunks, client_of, speech

UTTERANCES = 2


def decoded(final: Any) -> Any:  # noqa: ANN401 - any JSON
    """A listed final as JSON gives it."""
    return msgspec.json.decode(encode_final(final))


def check_words(finals: list[dict[str, Any]]) -> None:
    """Each final's words are its text, in order, within it, each no earlier than the one before."""
    assert len(finals) == UTTERANCES
    for final in finals:
        words = final["words"]
        assert [list(word) for word in words] == [["text", "start", "end", "confidence"]] * len(words)
        assert " ".join(word["text"] for word in words) == final["text"]
        assert final["start"] <= words[0]["start"] < words[-1]["end"] <= final["end"]
        assert all(one["start"] < one["end"] <= other["start"] for one, other in pairwise(words))
        assert all(0 <= word["confidence"] <= 1 for word in words)
        assert final["language"] == "en"
    assert finals[1]["words"][0]["start"] > finals[0]["words"][-1]["end"]


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
