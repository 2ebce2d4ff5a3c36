"""Captions: every bound for any finals, and where good ones are cut."""
# ruff: noqa: RUF001 - marks of many scripts look like each other

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.captions.cues import COLUMNS_PER_S, GAP_MS, LINES_PER_CUE, MAX_CUE_MS, MIN_CUE_MS, Cue, make_cues
from edge.captions.pieces import LINE_COLUMNS, columns_of, split_final
from eventlog.readmodel.documents import ListedFinal, TimedWord

LETTERS_OF_LINE = LINE_COLUMNS
LATE_MS = 1_500


def said(
    text: str, start: float = 0.0, *, rate: float = 3.0, number: int = 0, words: Sequence[str] | None = None,
    **fields: object,
) -> ListedFinal:
    """A final whose words are said at `rate` words a second; `words` unless spaces part them."""
    parts = text.split() if words is None else list(words)
    timed = [
        TimedWord(part, round(start + place / rate, 3), round(start + (place + 1) / rate, 3), 0.9)
        for place, part in enumerate(parts)
    ]
    end = timed[-1].end if timed else start
    given = {"speaker": "1", "channel": 0, "language": "en", "words": tuple(timed), **fields}
    return ListedFinal(
        utterance=number, text=text, start=start, end=end, decided=end, confidence=0.9, **given  # type: ignore[arg-type]
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120) | st.lists(st.sampled_from([
    "word", "word,", "and", "the", "end.", "-->", "&amp;", "<v x>", "\n\n", "1", "漢字、" * 20, "e\u0301" * 50, "\x85",
    "a\u0301" + "\u0301" * 60, "👩\u200d👩\u200d👧" * 9, "Donaudampfschifffahrtskapitän" * 3, "ประเทศไทย" * 8,
])).map(" ".join)  # fmt: skip
SECONDS = st.integers(0, 200_000).map(lambda ms: ms / 1000)


@st.composite
def finals(draw: st.DrawFn) -> list[ListedFinal]:
    """Any finals: overlapping, of no length, with words, with none, or with words that are another text's."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        text, start = draw(TEXTS), draw(SECONDS)
        end = start + draw(st.integers(0, 20_000)) / 1000
        parts = text.split()
        kind = draw(st.sampled_from(["none", "own", "letters", "foreign"]))
        if kind == "letters":
            parts = [char for char in text if not char.isspace()]
        elif kind != "own":
            parts = [] if kind == "none" else [*parts, "more"]
        times = sorted(draw(st.lists(SECONDS, min_size=2 * len(parts), max_size=2 * len(parts))))
        words = tuple(
            TimedWord(part, times[2 * place], times[2 * place + 1], 1.0) for place, part in enumerate(parts)
        )
        found.append(ListedFinal(
            utterance=number, text=text, start=start, end=end, decided=end, confidence=0.9,
            speaker=draw(st.sampled_from(["1", "2", "", "A<b>&\n-->", "x" * 90])), channel=draw(st.integers(0, 1)),
            language=draw(st.sampled_from(["", "en", "de", "fr", "es", "zh", "xx"])), words=words,
        ))  # fmt: skip
    return found


def by_channel(cues: Sequence[Cue]) -> list[list[Cue]]:
    """The captions of each channel, in order."""
    found = defaultdict(list)
    for cue in cues:
        found[cue.channel].append(cue)
    return list(found.values())


def letters(lines: Sequence[str]) -> str:
    """All letters, without spaces."""
    return "".join("".join(lines).split())


@settings(max_examples=50)
@given(finals(), st.booleans())
def test_a_caption_has_two_lines_of_42_letters_at_most(drawn: list[ListedFinal], named: bool) -> None:  # noqa: FBT001 - drawn
    """No caption has over two lines, no line over 42 letters, and none is empty or begins or ends blank (WORD-3)."""
    for cue in make_cues(drawn, named=named):
        assert 1 <= len(cue.lines) <= LINES_PER_CUE
        assert all(0 < len(line) <= LETTERS_OF_LINE for line in cue.lines)
        assert all(line == line.strip() for line in cue.lines)


@settings(max_examples=50)
@given(finals(), st.booleans())
def test_a_caption_lasts_one_to_seven_seconds(drawn: list[ListedFinal], named: bool) -> None:  # noqa: FBT001 - drawn
    """Each lasts 1 to 7 s, and those of a channel are two frames apart: they never overlap (WORD-3)."""
    for cues in by_channel(make_cues(drawn, named=named)):
        assert all(MIN_CUE_MS <= cue.end_ms - cue.start_ms <= MAX_CUE_MS for cue in cues)
        assert all(one.end_ms + GAP_MS <= other.start_ms for one, other in pairwise(cues))


@settings(max_examples=50)
@given(finals(), st.booleans())
def test_a_caption_stays_for_reading(drawn: list[ListedFinal], named: bool) -> None:  # noqa: FBT001 - drawn
    """One that asks for more than 20 letters a second lasts until the next one begins (WORD-3)."""
    for cues in by_channel(make_cues(drawn, named=named)):
        for cue, following in itertools.zip_longest(cues, cues[1:]):
            size = sum(map(len, cue.lines)) + len(cue.lines) - 1
            is_readable = size * 1000 <= COLUMNS_PER_S * (cue.end_ms - cue.start_ms)
            assert is_readable or (following is not None and following.start_ms == cue.end_ms + GAP_MS)


@settings(max_examples=50)
@given(finals())
def test_captions_lose_no_letter(drawn: list[ListedFinal]) -> None:
    """The captions of a final are its letters, in order, and begin no earlier than it does (WORD-3)."""
    for final in drawn:
        cues = make_cues([final])
        shown = letters([line for cue in cues for line in cue.lines])
        assert shown == "".join(piece.text for piece in split_final(final))
        assert shown == "".join(char for char in final.text if not char.isspace() and not _is_control(char))
        assert not cues or cues[0].start_ms >= round(final.start * 1000)


def _is_control(char: str) -> bool:
    return ord(char) < 32 or ord(char) == 127


@pytest.mark.parametrize("rate", [1.5, 3.0, 5.0])
def test_captions_follow_the_speech(rate: float) -> None:
    """Of running speech each caption begins with its first word, or not much later, at any rate (WORD-3)."""
    chance = random.Random(4)
    vocabulary = ["a", "of", "the", "horse,", "battery", "staple.", "extraordinary", "and", "because", "which", "we"]
    start, spoken = 0.0, []
    for number in range(40):
        text = " ".join(chance.choices(vocabulary, k=chance.randint(1, 40)))
        spoken.append(said(text, start, rate=rate, number=number))
        start = spoken[-1].end + chance.uniform(0.2, 3.0)
    times = iter([(word.text, round(word.start * 1000)) for final in spoken for word in final.words])
    late_ms = []
    for cue in make_cues(spoken):
        begin_ms = None
        for word in " ".join(cue.lines).split():
            text, at_ms = next(times)
            assert word == text
            begin_ms = at_ms if begin_ms is None else begin_ms
        late_ms.append(cue.start_ms - (begin_ms or 0))
    assert min(late_ms) >= 0
    assert max(late_ms) <= LATE_MS
    assert sum(late == 0 for late in late_ms) >= 0.8 * len(late_ms)


def test_captions_are_cut_at_clauses() -> None:
    """Sentences end captions first, then commas, then conjunctions; no line ends with an article (WORD-3)."""
    text = (
        "It was a bright cold day in April, and the clocks were striking thirteen. Winston Smith, his chin nuzzled "
        "into his breast in an effort to escape the vile wind, slipped quickly through the glass doors of the mansion "
        "because he wanted to see what the people there were doing with the furniture."
    )
    assert [cue.lines for cue in make_cues([said(text)])] == [
        ("It was a bright cold day in April,", "and the clocks were striking thirteen."),
        ("Winston Smith, his chin nuzzled", "into his breast in an effort to escape"),
        ("the vile wind, slipped quickly", "through the glass doors of the mansion"),
        ("because he wanted to see what the people", "there were doing with the furniture."),
    ]


def test_a_pause_ends_a_caption() -> None:
    """Words after a long pause wait for their own caption: they are not read before they are said (WORD-3)."""
    final = said("I think we should wait")
    words = (*final.words[:2], *(TimedWord(one.text, one.start + 3, one.end + 3, 0.9) for one in final.words[2:]))
    paused = said("I think we should wait", words=[])
    paused = ListedFinal(**{name: getattr(paused, name) for name in paused.__struct_fields__} | {
        "words": words, "end": words[-1].end,
    })  # fmt: skip
    first, second = make_cues([paused])
    assert (first.lines, second.lines) == (("I think",), ("we should wait",))
    assert second.start_ms == round(words[2].start * 1000)
    assert first.end_ms < second.start_ms


def test_text_without_words_is_spread_over_its_time() -> None:
    """A final of a version or an engine without words gets captions by the length of its text (WORD-3)."""
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen, then more"
    final = ListedFinal(
        utterance=0, text=text, start=10.0, end=20.0, decided=20.0, confidence=0.9, speaker="1", channel=0,
    )
    cues = make_cues([final])
    assert len(cues) >= 2
    assert cues[0].start_ms == 10_000
    for one, other in pairwise(cues):
        place = len(" ".join(" ".join(cue.lines) for cue in cues[: cues.index(other)])) / len(text)
        assert other.start_ms == pytest.approx(10_000 + 10_000 * place, abs=300)
        assert one.end_ms < other.start_ms


def test_scripts_without_spaces_are_cut_between_letters() -> None:
    """Chinese lines hold 21 wide letters, and no line begins with a full stop (WORD-3)."""
    text = "我们今天要讨论的是这个问题，因为它对大家都非常重要，所以请大家认真听。谢谢你们，祝大家一切顺利！" * 2
    for words in (list(text), [char for char in text if char not in "，。！"]):  # the second aren't the text's
        final = said(text, language="zh", rate=4.0, words=words)
        lines = [line for cue in make_cues([final]) for line in cue.lines]
        assert "".join(lines) == text
        assert all(columns_of(line) <= LINE_COLUMNS for line in lines)
        assert not any(line[0] in "，。！" for line in lines)
        assert lines[0].endswith("，")


def test_a_word_longer_than_a_line_is_cut() -> None:
    """It fills lines, and its parts are shown while it is said (WORD-3)."""
    final = said("x" * 100, rate=0.1)
    cues = make_cues([final])
    assert [len(line) for cue in cues for line in cue.lines] == [42, 42, 16]
    assert [cue.start_ms for cue in cues] == [0, 4_200]


def test_channels_have_captions_of_their_own() -> None:
    """Two that speak at once are both shown, each in time (WORD-3)."""
    both = [said("I speak first here.", 0.0), said("And I at once.", 0.5, number=1, speaker="2", channel=1)]
    assert [(cue.start_ms, cue.speaker) for cue in make_cues(both)] == [(0, "Speaker 1"), (500, "Speaker 2")]
    assert make_cues(both, named=True)[1].lines == ("Speaker 2: And I at once.",)
