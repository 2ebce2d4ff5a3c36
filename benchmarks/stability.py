"""How far finals keep to the stable words of the partials before them."""

from rapidfuzz.distance import Levenshtein

from benchmarks.wer import normalised


def changed_words(stable: str, final: str) -> tuple[int, int]:
    """The number of stable words that the final reads otherwise, and the number of stable words.

    Counted are edits from the stable words to the begin of the final that is most like them.
    """
    words, reads = normalised(stable), normalised(final)
    least = min(Levenshtein.distance(words, reads[:count]) for count in range(len(reads) + 1))
    return min(least, len(words)), len(words)


def slope_ms_per_min(points: list[tuple[float, float]]) -> float:
    """The growth of a latency by least squares: `points` are (when, seconds)."""
    if len(points) < 2:  # noqa: PLR2004 -- a line has two points
        return 0.0
    mean_at = sum(at for at, _ in points) / len(points)
    mean_s = sum(seconds for _, seconds in points) / len(points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    rise = sum((at - mean_at) * (seconds - mean_s) for at, seconds in points)
    return round(1000 * 60 * rise / spread, 1) if spread else 0.0
