"""What a contender's texts are worth: word errors, invented words, lost ends, and the guards that acted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.contenders import Result
from benchmarks.wer import Errors, lost_ends, normalised, word_errors
from processor.speech.guards import is_looping


@dataclass(frozen=True, slots=True)
class Score:
    """One contender on one kind.

    Attributes:
        errors: Of the recordings with spoken words.
        invented_words: Words in recordings without any.
        lost_ends: Utterances after which three spoken words or more are missing.
        loops: Texts that repeat themselves; a repeated sentence does too.
        cpu_s_per_audio_s: CPU seconds for each second of audio.
        second_looks: Utterances that were decoded more than once.
        marks: How often each guard acted.
    """

    errors: Errors
    invented_words: int
    lost_ends: int
    loops: int
    cpu_s_per_audio_s: float
    second_looks: int
    marks: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "wer": round(self.errors.rate, 4),
            **self.errors._asdict(),
            "invented_words": self.invented_words,
            "lost_ends": self.lost_ends,
            "loops": self.loops,
            "cpu_s_per_audio_s": round(self.cpu_s_per_audio_s, 4),
            "second_looks": self.second_looks,
            "marks": dict(self.marks),
        }


@dataclass(frozen=True, slots=True)
class KindScores:
    """All contenders on one kind of clips.

    Attributes:
        name: The kind.
        audio_s: Seconds of audio.
        utterances: How many our segmenter cut.
        scores: By contender.
        batch_differences: Utterances whose text differs alone and in a batch.
    """

    name: str
    audio_s: float
    utterances: int
    scores: dict[str, Score]
    batch_differences: int

    @staticmethod
    def over(name: str, kinds: Sequence["KindScores"]) -> "KindScores":
        """Return the sums over several kinds, CPU per second of all their audio."""
        audio_s = sum(kind.audio_s for kind in kinds)
        return KindScores(
            name=name,
            audio_s=round(audio_s, 1),
            utterances=sum(kind.utterances for kind in kinds),
            scores={contender: _sum(contender, kinds, audio_s) for contender in kinds[0].scores},
            batch_differences=sum(kind.batch_differences for kind in kinds),
        )

    def ratio(self, contender: str, to: str) -> float | None:
        """Return a contender's CPU over another's; None where one is missing."""
        if contender not in self.scores or to not in self.scores:
            return None
        other = self.scores[to].cpu_s_per_audio_s
        return self.scores[contender].cpu_s_per_audio_s / other if other else None

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        ratios = {
            f"{contender}_to_{to}": round(ratio, 3)
            for contender in ("ours", "in_eights")
            for to in ("whole_file", "baseline")
            if (ratio := self.ratio(contender, to)) is not None
        }
        return {
            "audio_s": self.audio_s,
            "utterances": self.utterances,
            "batch_differences": self.batch_differences,
            "cpu_ratios": ratios,
            **{contender: score.as_json() for contender, score in self.scores.items()},
        }


def scored(references: Sequence[str], result: Result, cpu_s_per_audio_s: float) -> Score:
    """Judge the texts of recordings against the spoken words; an empty reference says that nothing was spoken."""
    errors = Errors()
    invented = lost = 0
    for reference, texts in zip(references, result.texts, strict=True):
        if reference:
            errors = errors.plus(word_errors(reference, " ".join(texts)))
            lost += lost_ends(reference, texts)
        else:
            invented += len(normalised(" ".join(texts)))
    return Score(
        errors=errors,
        invented_words=invented,
        lost_ends=lost,
        loops=sum(is_looping(text) for texts in result.texts for text in texts),
        cpu_s_per_audio_s=cpu_s_per_audio_s,
        second_looks=result.second_looks,
        marks=Counter(mark for marks in result.marks for mark in marks),
    )


def batch_differences(alone: Result, batched: Result) -> int:
    """Return how many utterances have another text in a batch than alone."""
    pairs = zip(alone.texts, batched.texts, strict=True)
    return sum(one != other for mine, its in pairs for one, other in zip(mine, its, strict=True))


def _sum(contender: str, kinds: Sequence[KindScores], audio_s: float) -> Score:
    scores = [(kind.audio_s, kind.scores[contender]) for kind in kinds]
    errors, marks = Errors(), Counter[str]()
    for _, score in scores:
        errors = errors.plus(score.errors)
        marks.update(score.marks)
    return Score(
        errors=errors,
        invented_words=sum(score.invented_words for _, score in scores),
        lost_ends=sum(score.lost_ends for _, score in scores),
        loops=sum(score.loops for _, score in scores),
        cpu_s_per_audio_s=sum(seconds * score.cpu_s_per_audio_s for seconds, score in scores) / audio_s,
        second_looks=sum(score.second_looks for _, score in scores),
        marks=marks,
    )
