"""Options of a session: how clients write them, and their bounds."""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.session.options import AUTO, read_change
from edge.session.parameters import Parameters, collect, parse
from eventlog.events import OptionsChanged

HUNDRED = [f"term {number:02}" for number in range(100)]


@contextlib.contextmanager
def refused(code: str, naming: str) -> Iterator[None]:
    """A refusal with this code whose message names the parameter."""
    with pytest.raises(ApiError, match=naming) as found:
        yield
    assert found.value.error.code == code


def test_every_option_has_a_parameter() -> None:
    """All options of a session can be given in the query string (WORD-8)."""
    query = (
        "language=pt_BR&model=base.en&endpointing_ms=300&partial_interval_ms=500&terms=Dashwood,%20Norland%20Park&"
        "prompt=A%20novel.&numerals=true&profanity_filter=1&speech_events=True&channels=mix"
    )
    assert parse(query.encode()) == Parameters(
        language="pt-BR", model="base.en", hangover_ms=300, partial_interval_ms=500, terms=("Dashwood", "Norland Park"),
        prompt="A novel.", numerals=True, profanity_filter=True, speech_events=True, layout="mix",
    )  # fmt: skip


def test_empty_values_count_as_not_given() -> None:
    """A page's form sends all its fields, and those that a person left empty mean nothing (WORD-8)."""
    names = ("sample_rate", "encoding", "channels", "language", "model", "endpointing_ms", "hangover_ms", "terms",
             "term", "prompt", "numerals", "profanity_filter", "speech_events", "partial_interval_ms")  # fmt: skip
    assert parse(urlencode(dict.fromkeys(names, "")).encode()) == Parameters()


@pytest.mark.parametrize(("text", "tag"), [
    ("en", "en"), ("en_US", "en-US"), ("zh_Hant_TW", "zh-Hant-TW"), ("auto", AUTO), ("AUTO", AUTO),
])  # fmt: skip
def test_a_language_may_have_underscores_or_be_left_to_the_model(text: str, tag: str) -> None:
    """Phones and Java write en_US for American English, and auto asks for detection (WORD-2)."""
    assert parse(f"language={text}".encode()).language == tag


@pytest.mark.parametrize("query", [
    "term=Dashwood&term=Norland%20Park", "terms=Dashwood,Norland%20Park", "terms=Dashwood&term=Norland%20Park",
    "term=Dashwood%0ANorland%20Park", "terms=%20Dashwood%20,,Norland%20Park,Dashwood",
])  # fmt: skip
def test_terms_come_with_commas_or_one_by_one(query: str) -> None:
    """Key terms are separated by commas, or a parameter each, which may hold commas; each counts once (WORD-6)."""
    assert parse(query.encode()).terms == ("Dashwood", "Norland Park")
    assert parse(b"term=Barton,%20Devon").terms == ("Barton, Devon",)


def test_terms_are_bounded() -> None:
    """A hundred terms of a hundred characters each are taken, up to 2,000 in all (WORD-6)."""
    assert parse(urlencode([("term", term) for term in HUNDRED]).encode()).terms == tuple(HUNDRED)
    assert len(parse(f"term={'x' * 100}".encode()).terms) == 1
    for terms in ([*HUNDRED, "one more"], ["x" * 101], ["x" * 99 + str(number) for number in range(21)], ["a\x00b"]):
        with refused("invalid_option", "^terms"):
            parse(urlencode([("term", term) for term in terms]).encode())


@pytest.mark.parametrize(("query", "code", "naming"), [
    ("language=english", "invalid_language", "language"),
    ("language=en%0A", "invalid_language", "language"),
    ("model=../secret", "invalid_option", "model"),
    ("endpointing_ms=99", "invalid_hangover", "endpointing_ms"),
    ("endpointing_ms=300&hangover_ms=400", "invalid_hangover", "endpointing_ms and hangover_ms"),
    ("partial_interval_ms=0", "invalid_option", "partial_interval_ms"),
    (f"prompt={'x' * 1001}", "invalid_option", "prompt"),
    ("prompt=a%00b", "invalid_option", "prompt"),
    ("numerals=yes", "invalid_option", "numerals"),
    ("profanity_filter=on", "invalid_option", "profanity_filter"),
    ("speech_events=2", "invalid_option", "speech_events"),
    ("channels=both", "invalid_channels", "channels"),
    ("channels=3", "invalid_channels", "channels"),
    ("&".join(["x=1"] * 201), "invalid_option", "parameters"),
])  # fmt: skip
def test_an_error_names_its_parameter(query: str, code: str, naming: str) -> None:
    """A malformed option is refused with a message that names it (WORD-8)."""
    with refused(code, naming):
        parse(query.encode())


def test_both_names_of_the_pause_are_taken() -> None:
    """The older name means the same, and both may be given if they agree."""
    for query in (b"hangover_ms=300", b"endpointing_ms=300", b"endpointing_ms=300&hangover_ms=300"):
        assert parse(query).hangover_ms == 300


@pytest.mark.parametrize(("value", "channels", "layout"), [
    ("1", 1, None), ("2", 2, "split"), ("mix", None, "mix"), ("split", None, "split"), ("auto", None, "auto"),
])  # fmt: skip
def test_channels_are_a_number_or_a_layout(value: str, channels: int | None, layout: str | None) -> None:
    """Two channels by number stay apart; in words the client says what becomes of two (MEDIA-4)."""
    found = parse(f"channels={value}".encode())
    assert (found.channels, found.layout) == (channels, layout)


def test_forms_join_what_may_be_repeated() -> None:
    """Of a repeated field the last value counts, but each term, and none of the empty ones."""
    pairs = [("term", "a"), ("language", "de"), ("term", ""), ("term", "b"), ("language", "fr"), ("prompt", "")]
    assert collect(pairs) == {"term": "a\nb", "language": "fr"}


def test_a_change_names_what_it_changes() -> None:
    """A client changes any of five options at once; what it leaves out stays (WORD-6)."""
    assert read_change('{"type":"configure","language":"de_AT"}') == OptionsChanged(language="de-AT")
    given = {"terms": ["Elinor", " Marianne "], "prompt": "", "endpointing_ms": 300, "partial_interval_ms": 100}
    assert read_change(msgspec.json.encode(given)) == OptionsChanged(
        terms=("Elinor", "Marianne"), prompt="", hangover_ms=300, partial_interval_ms=100
    )
    assert read_change('{"terms":[],"hangover_ms":5000}') == OptionsChanged(terms=(), hangover_ms=5000)


@pytest.mark.parametrize(("text", "naming"), [
    ("{}", "at least one"),
    ('{"type":"configure","language":null}', "at least one"),
    ('{"model":"large"}', "model"),
    ('{"channels":2}', "channels"),
    ('{"language":"english"}', "language"),
    ('{"language":7}', "language"),
    ('{"terms":"a,b"}', "terms"),
    ('{"terms":["' + "x" * 101 + '"]}', "terms"),
    ('{"prompt":"' + "x" * 1001 + '"}', "prompt"),
    ('{"endpointing_ms":5001}', "endpointing_ms"),
    ('{"endpointing_ms":300,"hangover_ms":400}', "endpointing_ms"),
    ('{"partial_interval_ms":1}', "partial_interval_ms"),
    ("[]", "object"),
])  # fmt: skip
def test_a_malformed_change_is_refused_by_name(text: str, naming: str) -> None:
    """A change that can't be made says which option is at fault (WORD-6)."""
    with pytest.raises(ValueError, match=naming):
        read_change(text)


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.integers() | st.text()).map(msgspec.json.encode))
def test_any_bytes_are_a_change_or_refused(data: bytes) -> None:
    """No body does anything but change options or give an error (SAFE-4)."""
    with contextlib.suppress(ValueError):
        assert read_change(data) != OptionsChanged()
