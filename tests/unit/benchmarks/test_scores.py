"""The scores of the recognisers' benchmark, its tables, and its measure of word times."""

from collections import Counter
from collections.abc import Sequence

import pytest

from benchmarks.asr_tables import tables
from benchmarks.contenders import Result
from benchmarks.corpus import Recording
from benchmarks.noises import tone
from benchmarks.scores import KindScores, batch_differences, scored
from benchmarks.variants import joined
from benchmarks.word_times import WordTimes, measure, timed_clips
from processor.recognisers.base import Clip, RecognisedWord, Recognition

ALONE = Result([["a b", "c d"], ["e"]], cpu_s=2.0, second_looks=1, marks=[("loop",), (), ("loop", "tail")])


def kind(name: str, references: Sequence[str], cpu_s_per_audio_s: float, audio_s: float) -> KindScores:
    """A kind on which ours costs half of the baseline."""
    scores = {
        "ours": scored(references, ALONE, cpu_s_per_audio_s), "in_eights": scored(references, ALONE, cpu_s_per_audio_s),
        "baseline": scored(references, ALONE, 2 * cpu_s_per_audio_s),
    }  # fmt: skip
    return KindScores(name=name, audio_s=audio_s, utterances=3, scores=scores, batch_differences=1)


def test_texts_are_scored_with_their_guards() -> None:
    """Utterances are joined for the words' errors, and each guard's marks are counted."""
    score = scored(["a b c x", "e"], ALONE, 0.1)
    assert (score.errors.substitutions, score.errors.total, score.errors.spoken) == (1, 1, 5)
    assert score.marks == Counter(loop=2, tail=1)
    assert score.second_looks == 1


def test_words_without_speech_are_invented() -> None:
    """WORD-2: every word in a recording without speech counts as invented, and as no word error."""
    score = scored(["", "e"], ALONE, 0.1)
    assert score.invented_words == 4
    assert score.errors.total == 0


def test_differences_in_a_batch_are_counted() -> None:
    """Utterances whose text is another one in a batch are counted, wherever they are."""
    assert batch_differences(ALONE, Result([["a b", "c"], ["E"]], 1.0)) == 2
    assert batch_differences(ALONE, ALONE) == 0


def test_sums_weigh_cost_by_audio() -> None:
    """Over several kinds errors add up, and CPU is that of all their audio."""
    over = KindScores.over("all", [kind("x", ["a b", "e"], 0.1, 10.0), kind("y", ["a b c d", "e"], 0.4, 30.0)])
    assert over.audio_s == 40
    assert over.scores["ours"].cpu_s_per_audio_s == pytest.approx((0.1 * 10 + 0.4 * 30) / 40)
    assert over.scores["ours"].errors.insertions == 2
    assert over.ratio("ours", "baseline") == pytest.approx(0.5)
    assert over.ratio("ours", "whole_file") is None
    assert over.as_json()["cpu_ratios"] == {"ours_to_baseline": 0.5, "in_eights_to_baseline": 0.5}


def test_tables_have_a_row_for_each_kind() -> None:
    """The tables name each kind with its errors, cost, ratios and guards, and all speech without the noise."""
    text = tables([kind("x", ["a b", "e"], 0.1, 10.0), kind("y", ["a b c d", "e"], 0.4, 30.0),
                   kind("noise", ["", ""], 0.1, 10.0)],
                  {"close": WordTimes(20, 19, 0.0604, 0.118, 0.05, 0.14)})
    assert text.count("all speech") == 3
    assert "5 words" in text
    assert "loop 2, tail 1" in text
    assert " ".join(text.splitlines()[-1].split()) == "close 19 of 20 60 ms 118 ms 50 ms 140 ms"
    [errors, *_] = [line for line in text.splitlines() if line.startswith("all speech")]
    assert errors.split()[2:4] == ["40", "25.0"]  # 2 of 8 words, over 40 s


class Late:
    """A recogniser that knows the digits and gives every time 0.1 s late."""

    name, max_batch, max_parallel = "late", 1, 1

    def __init__(self, times_s: dict[bytes, list[tuple[float, float]]]) -> None:
        self._times_s = times_s

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Give one word for each time."""
        texts = ("One,", "2", "33")
        return [
            Recognition(text="", confidence=1.0, words=tuple(
                RecognisedWord(text, start_s + 0.1, end_s + 0.1, 1.0)
                for text, (start_s, end_s) in zip(texts, self._times_s[clip.pcm], strict=True)
            ))
            for clip in clips
        ]  # fmt: skip

    def close(self) -> None:
        """Nothing to free."""


def test_word_times_are_distances_to_known_positions() -> None:
    """WORD-3: the measure gives the distance of words from their known places, and passes over those that differ."""
    recording = Recording("dig", joined([tone(300, seconds=0.3)] * 3, 0.5), "one two three")
    clips = timed_clips([recording], 0.25)
    found = measure(Late({one.clip.pcm: one.times_s for one in clips}), clips)
    assert found is not None
    assert (found.spoken, found.compared) == (3, 2)
    assert [found.start_median_s, found.start_p90_s, found.end_median_s, found.end_p90_s] == pytest.approx([0.1] * 4)
    assert measure(Late({}), []) is None
