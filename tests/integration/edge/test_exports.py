"""Transcripts as text and captions: golden files, any finals at all, and which format an `Accept` header means."""

import unicodedata
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.captions.cues import LINES_PER_CUE, make_cues
from edge.captions.pieces import LINE_COLUMNS
from edge.errors import ApiError
from edge.views.exports import Format, negotiate, plain_text, srt, vtt
from eventlog.readmodel.documents import ListedFinal
from tests.integration.edge.captions import Caption, parse_srt, parse_vtt
from tests.integration.edge.replicas import Replica
from tests.integration.edge.test_sessions import ask


def final(
    text: str, start: float, end: float, *, number: int = 0, speaker: str = "1", channel: int = 0
) -> ListedFinal:
    """A final with what matters here."""
    return ListedFinal(
        utterance=number, text=text, start=start, end=end, decided=end, confidence=0.9, speaker=speaker, channel=channel
    )


TALK = [
    final("Shall we begin?", 0.4, 1.2),
    final("Yes. I'd say that 3 < 4 & 5 > 4 --> and that is all there is to be said about numbers, isn't it?",
          1.0, 6.0, number=1, speaker="2", channel=1),
    final("Right.", 6.25, 6.5, number=2),
    final("See you.", 3661.5, 3662.0, number=3),
]  # fmt: skip

GOLDEN_SRT = """\
1
00:00:00,400 --> 00:00:01,700
Speaker 1: Shall we begin?

2
00:00:01,000 --> 00:00:02,586
Speaker 2: Yes.
I'd say that 3 < 4 & 5 > 4 ->

3
00:00:02,666 --> 00:00:06,000
and that is all there
is to be said about numbers, isn't it?

4
00:00:06,250 --> 00:00:07,250
Speaker 1: Right.

5
01:01:01,500 --> 01:01:02,500
Speaker 1: See you.
"""

GOLDEN_VTT = """\
WEBVTT

00:00:00.400 --> 00:00:01.400
<v Speaker 1>Shall we begin?

00:00:01.000 --> 00:00:02.586
<v Speaker 2>Yes. I'd say that 3 &lt; 4 &amp; 5 &gt; 4 --&gt;

00:00:02.666 --> 00:00:06.000
<v Speaker 2>and that is all there
is to be said about numbers, isn't it?

00:00:06.250 --> 00:00:07.250
<v Speaker 1>Right.

01:01:01.500 --> 01:01:02.500
<v Speaker 1>See you.
"""

GOLDEN_TEXT = """\
Speaker 1: Shall we begin?

Speaker 2: Yes. I'd say that 3 < 4 & 5 > 4 --> and that is all there is to be said about numbers, isn't it?

Speaker 1: Right. See you.
"""


def test_captions_and_text_match_the_stored_ones() -> None:
    """SRT, WebVTT and text of a conversation are these files to the byte (SESS-4)."""
    assert srt(TALK) == GOLDEN_SRT
    assert vtt(TALK) == GOLDEN_VTT
    assert plain_text(TALK) == GOLDEN_TEXT


def test_one_speaker_is_not_named() -> None:
    """Where one person speaks, text and SRT are their words alone."""
    alone = [TALK[0], TALK[2]]
    assert plain_text(alone) == "Shall we begin? Right.\n"
    assert "Speaker" not in srt(alone)


def test_no_speech_is_an_empty_file() -> None:
    """An empty transcript is a valid empty file in every format (STITCH-6)."""
    assert (plain_text([]), srt([]), vtt([])) == ("", "", "WEBVTT\n")
    silent = [final(" \n\x00 ", 0.0, 1.0)]
    assert (srt(silent), vtt(silent)) == ("", "WEBVTT\n")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.lists(
    st.sampled_from(["word", "-->", "&amp;", "<v x>", "\n\n", "1", "漢字" * 40, "e\u0301" * 50, "\x85", "WEBVTT"])
).map(" ".join)
seconds = st.integers(0, 2_000_000).map(lambda ms: ms / 1000)


@st.composite
def finals(draw: st.DrawFn) -> list[ListedFinal]:
    """Any finals: overlapping, of no length, of any words, speakers and channels."""
    count = draw(st.integers(0, 8))
    found = []
    for number in range(count):
        start = draw(seconds)
        end = start + draw(st.integers(0, 20_000)) / 1000
        speaker, channel = draw(st.sampled_from(["1", "2", "", "A<b>&\n-->"])), draw(st.integers(0, 2))
        found.append(final(draw(texts), start, end, number=number, speaker=speaker, channel=channel))
    return found


def words_of(captions: list[Caption]) -> str:
    """All letters in order of the alphabet, whatever the order of the captions; blanks don't count."""
    return "".join(sorted("".join("".join(line.split()) for caption in captions for line in caption.lines)))


@given(finals())
def test_any_finals_make_valid_captions(drawn: list[ListedFinal]) -> None:
    """Whatever was said, both caption files parse strictly, times never go back, and no letter is lost (SESS-4)."""
    captions = parse_vtt(vtt(drawn))
    said = "".join(
        char for one in drawn for char in one.text if not char.isspace() and (ord(char) > 31 and ord(char) != 127)
    )
    assert words_of(captions) == "".join(sorted(said))
    for found in (captions, parse_srt(srt(drawn))):
        assert [caption.start_ms for caption in found] == sorted(caption.start_ms for caption in found)
        assert all(len(caption.lines) <= LINES_PER_CUE for caption in found)
        assert all(0 < len(line) <= LINE_COLUMNS for caption in found for line in caption.lines)


@given(finals(), st.booleans())
def test_captions_of_a_channel_never_overlap(drawn: list[ListedFinal], named: bool) -> None:  # noqa: FBT001 - drawn
    """One person's captions come one after the other, each for some time, and begin no earlier than they speak."""
    of_channel = defaultdict(list)
    for cue in make_cues(drawn, named=named):
        of_channel[cue.channel].append(cue)
    for channel, found in of_channel.items():
        assert all(before.end_ms <= after.start_ms for before, after in pairwise(found))
        assert found[0].start_ms >= min(round(one.start * 1000) for one in drawn if one.channel == channel)


def test_an_accent_stays_with_its_letter() -> None:
    """A word longer than a line is cut between letters, not before an accent."""
    [line, *_] = parse_vtt(vtt([final("x" + "e\u0301" * 50, 0.0, 5.0)]))[0].lines
    assert len(line) <= LINE_COLUMNS
    assert unicodedata.combining(line[-1])


@pytest.mark.parametrize(("accept", "wanted"), [
    ("", Format.JSON),
    ("*/*", Format.JSON),
    ("application/*", Format.JSON),
    ("text/plain", Format.TEXT),
    ("text/*", Format.TEXT),
    ("text/vtt", Format.VTT),
    ("application/x-subrip", Format.SRT),
    ("text/plain, application/json;q=0.5", Format.TEXT),
    ("application/json;q=0.5, text/vtt;q=0.9", Format.VTT),
    ("text/vtt, application/json", Format.VTT),
    ("application/json;q=0, */*", Format.TEXT),
    ("text/plain;q=0.2, text/*;q=0.9", Format.VTT),
    ("text/html, */*;q=0.1", Format.JSON),
    ("TEXT/VTT ; Q=1.0", Format.VTT),
    ("text/vtt;q=x, text/plain;q=0.1", Format.TEXT),
])  # fmt: skip
def test_accept_is_negotiated(accept: str, wanted: Format) -> None:
    """The format is the one that the header likes best, the most exact part deciding for each (SESS-4)."""
    assert negotiate(accept) is wanted


@pytest.mark.parametrize("accept", ["text/html", "image/*", "*/*;q=0", "application/json;q=0, text/plain;q=0", "x"])
def test_an_unavailable_format_is_refused(accept: str) -> None:
    """A header that takes none of the formats is refused."""
    with pytest.raises(ApiError) as refused:
        negotiate(accept)
    assert refused.value.error.status == 406


async def test_formats_are_served(edge: Replica) -> None:
    """Each format is had by `Accept` and by suffix, with its media type, and anything else is a 406 (SESS-4)."""
    async with edge.connect() as client:
        address = f"/v1/sessions/{(await client.next())['session_id']}/transcript"
        for wanted in Format:
            by_accept = await ask(edge, address, accept=wanted.media_type)
            by_suffix = await ask(edge, f"{address}.{wanted.suffix}", accept="text/html")
            for answer in (by_accept, by_suffix):
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith(wanted.media_type)
            assert by_accept.content == by_suffix.content
            assert by_accept.headers["vary"] == "Accept"
        refused = await ask(edge, address, accept="text/html")
        assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
        assert (await ask(edge, f"{address}.docx")).status_code == 404
