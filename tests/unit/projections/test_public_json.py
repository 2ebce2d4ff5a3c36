"""The JSON that clients and subscribers see, byte for byte."""

from pathlib import Path

import msgspec
import pytest

from eventlog.codec import decode_fact, encode
from eventlog.events import HoleNoted, SessionEnded, UtteranceFinal, Word
from eventlog.positions import OPENED
from eventlog.projection.projection_log import RunFacts
from eventlog.readmodel.documents import decode_document, decode_final, encode_document, stitch
from projections.cleaning import clean
from projections.lists import Lists
from projections.public_json import encode_event, to_listed_final
from tests.integration.projections.facts import ended, final, keys_of, opened

FINAL = UtteranceFinal(
    utterance=0, channel=0, start_samples=6720, end_samples=49_600, decided_samples=57_600, sample_rate_hz=16_000,
    text="Grüße, “you”.", confidence=0.93049, speaker="1", committed_ms=5,
)
FINAL_JSON = (
    '{"type":"final","utterance":0,"text":"Grüße, “you”.","start":0.42,"end":3.1,"decided":3.6,'
    '"confidence":0.93,"speaker":"1","channel":0}'
)


def test_a_final_on_the_wire() -> None:
    """A final is listed and fed as documented, in seconds to the millisecond."""
    assert encode_event(FINAL) == FINAL_JSON.encode()
    assert decode_final(FINAL_JSON.encode()) == to_listed_final(FINAL)


def test_a_final_carries_its_words_on_the_wire() -> None:
    """Words and language follow the other fields, each word with text, start, end and confidence (WORD-3)."""
    words = (Word("Grüße,", 6720, 20_016, 0.988), Word("“you”.", 20_016, 49_600, 1.0))
    fact = msgspec.structs.replace(FINAL, words=words, language="de")
    assert encode_event(fact) == (
        FINAL_JSON[:-1] + ',"language":"de","words":[{"text":"Grüße,","start":0.42,"end":1.251,"confidence":0.988},'
        '{"text":"“you”.","start":1.251,"end":3.1,"confidence":1.0}]}'
    ).encode()
    assert decode_final(encode_event(fact) or b"") == to_listed_final(fact)


@pytest.mark.parametrize("golden", ["utterance_final.v1", "utterance_final.v1.least", "utterance_final.v2.least"])
def test_a_final_without_words_says_nothing_of_them(golden: str) -> None:
    """A fact of an older version, or of a recogniser without times, is published as it was before (WORD-3)."""
    fact = decode_fact(Path(f"tests/golden/{golden}.json").read_bytes())
    assert isinstance(fact, UtteranceFinal)
    published = msgspec.json.decode(encode_event(fact) or b"")
    assert list(published) == [
        "type", "utterance", "text", "start", "end", "decided", "confidence", "speaker", "channel",
    ]


def test_the_end_on_the_wire() -> None:
    """The end says why, how many utterances and how much audio."""
    fact = SessionEnded(reason="stop", audio_samples=710_400, utterances=7, sample_rate_hz=16_000, ended_ms=1)
    assert encode_event(fact) == b'{"type":"session_end","reason":"stop","utterances":7,"audio_seconds":44.4}'


def test_a_hole_on_the_wire() -> None:
    """Lost audio has an event, and is never stitched over in silence."""
    fact = HoleNoted(start_samples=16_000, end_samples=24_000, sample_rate_hz=16_000)
    assert encode_event(fact) == b'{"type":"hole","start":1.0,"end":1.5}'


def test_the_first_fact_makes_no_event() -> None:
    """Listeners get a session's start from its edge, not from the feed."""
    assert encode_event(opened(keys_of("s"))[1]) is None


def test_the_document_on_the_wire() -> None:
    """The document holds the stitched transcript and each final, as documented."""
    keys = keys_of("8f5b1d6e-0000-4000-8000-000000000000")
    pulled = RunFacts(keys, final(0)[0], [final(1), ended(2)])
    pushed = (op.arguments[0] for op in Lists().fold(pulled, [[], []]) if op.command == "RPUSH")
    stored = [encode_event(final(0)[1]), *pushed]
    [document] = [
        op.arguments[0] for op in Lists().fold(pulled, [stored[:1], []]) if op.command == "SET"
    ]
    entries = [each for each in stored if isinstance(each, bytes)]
    utterances = b",".join(entries)
    readable = msgspec.json.encode(clean([decode_final(each) for each in entries], ""))
    assert document == (
        b'{"session_id":"8f5b1d6e-0000-4000-8000-000000000000","run":"live","transcript":"words 0. words 1.",'
        b'"utterances":[' + utterances + b'],"reason":"stop","audio_seconds":4.0,"language":null,'
        b'"sample_rate":16000,"ended_at":"2023-11-14T22:15:00.000+00:00",'
        b'"cleaned":' + readable + b"}"
    )
    assert encode_document(decode_document(document)) == document


def test_a_detected_language_is_that_of_most_utterances() -> None:
    """A document whose language was detected names the one of most finals, by whose rules it is cleaned (WORD-8)."""
    keys = keys_of("8f5b1d6e-0000-4000-8000-000000000000")
    first = msgspec.structs.replace(opened(keys)[1], language="auto")
    said = [
        (at, msgspec.structs.replace(fact, language=language))
        for (at, fact), language in zip([final(0, "Äh, ja."), final(1, "Yes."), final(2, "Nein.")], ["de", "en", "de"],
                                        strict=True)
    ]  # fmt: skip
    pulled = RunFacts(keys, OPENED, [*said, ended(3)])
    answers = [[], [(b"0-1", [b"fact", encode(first)])]]
    [stored] = [op.arguments[0] for op in Lists().fold(pulled, answers) if op.command == "SET"]
    assert isinstance(stored, bytes)
    document = decode_document(stored)
    assert (document.language, document.cleaned) == ("de", "Ja. Yes. Nein.")


def test_nothing_said_stitches_to_nothing() -> None:
    """An empty session's transcript is empty, not an error (STITCH-6)."""
    assert stitch([]) == ""


@pytest.mark.parametrize("entry", [b"", b"{}", b'{"type":"partial"}', FINAL_JSON.encode()[:-5]])
def test_an_entry_that_is_no_final_is_refused(entry: bytes) -> None:
    """A List entry that isn't ours raises instead of being stitched."""
    with pytest.raises(msgspec.DecodeError):
        decode_final(entry)
