from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.codec import UPCASTERS, UndecodableEventError, decode_audio_event, decode_fact, encode
from eventlog.events import AudioEvent, Fact, UtteranceFinal
from tests.integration.eventlog.events_seen import AUDIO_EVENTS, FACTS, any_audio_event, any_fact
from tests.support.tree import ROOT

GOLDEN = ROOT / "tests/golden"
EVENTS = AUDIO_EVENTS | FACTS


def golden(name: str) -> bytes:
    """The bytes that the first build with this version wrote; the file's own line end is none of them."""
    return (GOLDEN / f"{name}.json").read_bytes().removesuffix(b"\n")


def decode(name: str, data: bytes) -> AudioEvent | Fact:
    """Decode as the readers of that stream do."""
    return decode_audio_event(data) if name in AUDIO_EVENTS else decode_fact(data)


@given(any_audio_event)
def test_audio_events_survive_the_codec(event: AudioEvent) -> None:
    """An audio event with any content is the same after encoding and decoding."""
    assert decode_audio_event(encode(event)) == event


@given(any_fact)
def test_facts_survive_the_codec(fact: Fact) -> None:
    """A fact with any content is the same after encoding and decoding."""
    assert decode_fact(encode(fact)) == fact


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_events_of_every_version_still_decode(name: str) -> None:
    """Bytes written by an older version decode to the event that they meant (OPS-1)."""
    assert decode(name, golden(name)) == EVENTS[name]


WRITTEN = {str(kind.__struct_config__.tag) for kind in (*get_args(AudioEvent), *get_args(Fact))}
"""The wire names that this version writes."""


@pytest.mark.parametrize("name", sorted(name for name in EVENTS if ".".join(name.split(".")[:2]) in WRITTEN))
def test_events_keep_their_bytes(name: str) -> None:
    """Events of the present version have the bytes that they always had (OPS-1)."""
    assert encode(EVENTS[name]) == golden(name)


def test_every_version_has_its_golden_bytes() -> None:
    """Each wire name that is written now, or is raised by an upcaster, has a golden file."""
    assert WRITTEN | set(UPCASTERS) == {".".join(path.name.split(".")[:2]) for path in GOLDEN.glob("*.json")}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_fields_of_a_later_version_are_ignored(name: str) -> None:
    """An event with a field that this version doesn't know decodes without it (OPS-1)."""
    later = golden(name)[:-1] + b',"added_later":{"any":[1]}}'
    assert decode(name, later) == EVENTS[name]


def test_older_versions_are_raised_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event two versions old goes through both upcasters and decodes as the present one (OPS-1)."""

    def from_seconds(raw: dict[str, Any]) -> dict[str, Any]:
        ends = {f"{name}_samples": int(raw.pop(name) * raw["rate"]) for name in ("start", "end", "decided")}
        return raw | ends | {"event": "utterance_final.first_half"}

    def with_speaker(raw: dict[str, Any]) -> dict[str, Any]:
        return raw | {"speaker": "1", "sample_rate_hz": raw["rate"], "event": "utterance_final.v1"}

    monkeypatch.setitem(UPCASTERS, "utterance_final.zeroth", from_seconds)
    monkeypatch.setitem(UPCASTERS, "utterance_final.first_half", with_speaker)
    old = {
        "event": "utterance_final.zeroth", "utterance": 2, "channel": 0, "start": 0.5, "end": 1.5, "decided": 2.0,
        "rate": 8000, "text": "yes", "confidence": 0.5,
    }  # fmt: skip
    assert decode_fact(msgspec.json.encode(old)) == UtteranceFinal(
        utterance=2, channel=0, start_samples=4000, end_samples=12_000, decided_samples=16_000, sample_rate_hz=8000,
        text="yes", confidence=0.5, speaker="1",
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"[]", b"null", b"{}", b'{"event":null}', b'{"event":[]}', b'{"event":{}}',
        b'{"event":"finalized"}', b'{"event":"finalized.v2"}', b'{"event":"hole_found.v1"}',
        b'{"event":"hole_found.v1","samples":"x"}', b'{"event":"hole_noted.v1"}', b'{"event":"\xff"}',
        b'{"a":' * 100_000,
    ],
    ids=lambda data: data[:40].decode(errors="replace"),
)  # fmt: skip
def test_other_bytes_raise_the_codecs_error(data: bytes) -> None:
    """Bytes that are no event of a known version raise the codec's own error."""
    for one in (decode_audio_event, decode_fact):
        with pytest.raises(UndecodableEventError):
            one(data)


@given(st.binary() | st.binary().map(lambda text: b'{"event":"finalized.v1","x":"' + text + b'"}'))
@example(b'{"event":"finalized.v1","x":"\xff"}')
def test_no_bytes_break_a_reader(data: bytes) -> None:
    """Any bytes at all either decode or raise the codec's own error."""
    for one in (decode_audio_event, decode_fact):
        try:
            one(data)
        except UndecodableEventError as error:
            assert str(error)  # noqa: PT017 - both ways are right


def test_facts_and_audio_events_are_not_mixed_up() -> None:
    """A reader of one kind refuses an event of the other."""
    with pytest.raises(UndecodableEventError, match=r"session_opened\.v1"):
        decode_audio_event(golden("session_opened.v1"))
    with pytest.raises(UndecodableEventError, match=r"finalized\.v1"):
        decode_fact(golden("finalized.v1"))
