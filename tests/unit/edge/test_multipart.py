"""Forms and formats, without any request: the same bytes in any pieces, and what recordings are taken for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.ingest import formats
from edge.ingest.multipart import FIELD_BYTES, FIELDS, FormError, FormReader
from tests.support.speech import RECORDINGS, speech

TYPE = "multipart/form-data; boundary=frontier"
AUDIO = b"\x00\r\n--fron\r\n--frontie" * 40 + b"\r\n"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form; a part's head is its `Content-Disposition` after ``form-data``."""
    body = b"".join(
        b"--frontier\r\nContent-Disposition: form-data; " + head.encode() + b"\r\nContent-Type: audio/ogg\r\n\r\n"
        + data + b"\r\n"
        for head, data in parts
    )  # fmt: skip
    return body + b"--frontier--\r\n"


WHOLE = form(
    ('name="session_id"', b"abc"), ('name="audio_file"; filename="a b.ogg"', AUDIO), ('name="language"', b"de")
)


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=40))
def test_forms_read_the_same_in_any_pieces(cuts: list[int]) -> None:
    """A form cut anywhere gives the same recording and fields as in one piece."""
    reader = FormReader(TYPE)
    bounds = sorted({0, *cuts, len(WHOLE)})
    pieces = [WHOLE[first:last] for first, last in pairwise(bounds)]
    assert b"".join(map(reader.feed, pieces)) == AUDIO
    reader.close()
    assert reader.fields == {"session_id": "abc", "language": "de"}
    assert reader.audio == ("a b.ogg", "audio/ogg")


def test_forms_read_byte_by_byte() -> None:
    """A form that comes one byte at a time gives its recording whole."""
    reader = FormReader(TYPE)
    assert b"".join(reader.feed(WHOLE[at : at + 1]) for at in range(len(WHOLE))) == AUDIO
    reader.close()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no form", WHOLE[:-10], WHOLE[:100], form(('name="language"', b"de")), form(("nothing", b"")),
        form(('name="file"', b"1"), ('name="audio_file"', b"2")), form(('name="notes"', b"x" * (FIELD_BYTES + 1))),
        form(*((f'name="f{number}"', b"") for number in range(FIELDS + 1))),
        b"--frontier\r\n" + b"x" * 100_000,
    ],
    ids=["empty", "text", "no end", "cut", "no audio", "no name", "two", "long field", "fields", "long header"],
)  # fmt: skip
def test_malformed_forms_are_refused(body: bytes) -> None:
    """A form that is malformed, has no recording, or goes over a bound is refused in words (SESS-10)."""
    reader = FormReader(TYPE)
    with pytest.raises(FormError, match=r".{10}"):
        _read(reader, body)


def _read(reader: FormReader, body: bytes) -> None:
    reader.feed(body)
    reader.close()


@given(body=st.binary(max_size=300))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    """Whatever comes as a form is read or refused, never a defect."""
    try:
        _read(FormReader(TYPE), b"--frontier\r\n" + body)
    except FormError:
        return


@pytest.mark.parametrize(
    ("content_type", "head", "encoding"),
    [
        ("audio/webm;codecs=opus", b"anything", "container"),
        ("audio/wav", b"RIFF", "container"),
        ("video/mp4", b"", "container"),
        ("application/octet-stream", b"RIFF\0\0\0\0WAVE", "container"),
        ("application/octet-stream", b"\0\0\0\x18ftypiso5", "container"),
        ("application/octet-stream", b"\xff\xfb\x90\x64" + bytes(60), "container"),
        ("", b"OggS" + bytes(60), "container"),
        ("application/x-www-form-urlencoded", b"fLaC" + bytes(60), "container"),
        ("application/octet-stream", b"<html><body>502 Bad Gateway", "container"),
        ("application/octet-stream", (RECORDINGS / "mediarecorder.webm").read_bytes()[:64], "container"),
        ("application/octet-stream", (RECORDINGS / "mediarecorder.mp4").read_bytes()[:64], "container"),
        ("application/octet-stream", speech(1)[:64], "linear16"),
        ("application/octet-stream", bytes(64), "linear16"),
        ("audio/L16; rate=8000", b"RIFF", "linear16"),
        ("audio/pcm", b"", "linear16"),
    ],
)  # fmt: skip
def test_recordings_are_distinguished_from_samples(content_type: str, head: bytes, encoding: str) -> None:
    """What says what it is, is taken for that; what doesn't, by its first bytes (LIVE-5)."""
    assert formats.session_options({}, content_type, head)["encoding"] == encoding


def test_options_override_detection() -> None:
    """Options decide over the content type, whose own parameters stand in for those that are left out (LIVE-5)."""
    said = "audio/l16;rate=8000;channels=2"
    assert formats.session_options({"sample_rate": "48000"}, said, b"") == {
        "encoding": "linear16", "sample_rate": "48000", "channels": "2",
    }  # fmt: skip
    assert formats.session_options({"encoding": "container"}, said, b"")["encoding"] == "container"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "image/png", "nonsense"])
def test_other_content_types_are_refused(content_type: str) -> None:
    """A body that says that it is no recording isn't taken for one."""
    with pytest.raises(ApiError, match="audio/"):
        formats.session_options({}, content_type, b"RIFF")
