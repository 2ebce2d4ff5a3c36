"""The tables of `python -m benchmarks.asr`: errors, and what they cost."""

from collections.abc import Sequence

from benchmarks.scores import KindScores, Score
from benchmarks.word_times import WordTimes

_NAMES = {"ours": "ours", "in_eights": "in eights", "whole_file": "whole file", "baseline": "baseline"}
_RATIO_NAMES = {"ours": "ours", "in_eights": "eights", "whole_file": "whole", "baseline": "base"}
_NAME_WIDTH, _CELL_WIDTH = 14, 15


def tables(kinds: Sequence[KindScores], times: dict[str, WordTimes]) -> str:
    """Return all tables as text, with a last row over all speech."""
    speech = [kind for kind in kinds if kind.name != "noise"]
    rows = [*kinds, *([KindScores.over("all speech", speech)] if len(speech) > 1 else [])]
    parts = [_errors(rows), _costs(rows), _guards(rows)]
    if times:
        parts.append(_word_times(times))
    return "\n\n".join(parts)


def _word_times(times: dict[str, WordTimes]) -> str:
    head = _line("word times", ["digits", "start median", "start 90 %", "end median", "end 90 %"])
    lines = [
        _line(name, [f"{found.compared} of {found.spoken}", *(f"{1000 * off_s:.0f} ms" for off_s in found[2:])])
        for name, found in times.items()
    ]
    return "\n".join([head, *lines])


def _errors(rows: Sequence[KindScores]) -> str:
    head = _line("word errors", ["audio s", *(_NAMES[name] for name in rows[0].scores), "lost ends", "alone ≠ batch"])
    return "\n".join([
        head,
        *(
            _line(row.name, [
                f"{row.audio_s:.0f}",
                *(_error_cell(score) for score in row.scores.values()),
                " / ".join(str(score.lost_ends) for name, score in row.scores.items() if name != "whole_file"),
                f"{row.batch_differences} of {row.utterances}",
            ])
            for row in rows
        ),
        "per cent of the spoken words (words deleted); lost ends of each but the whole file; invented words for noise",
    ])  # fmt: skip


def _costs(rows: Sequence[KindScores]) -> str:
    ratios = [(name, to) for to in ("whole_file", "baseline") if to in rows[0].scores for name in ("ours", "in_eights")]
    quotients = [f"{_RATIO_NAMES[name]}/{_RATIO_NAMES[to]}" for name, to in ratios]
    head = _line("CPU s per s", [*(_NAMES[name] for name in rows[0].scores), *quotients])
    return "\n".join([
        head,
        *(
            _line(row.name, [
                *(f"{score.cpu_s_per_audio_s:.3f}" for score in row.scores.values()),
                *(f"{row.ratio(name, to) or 0:.2f}" for name, to in ratios),
            ])
            for row in rows
        ),
    ])  # fmt: skip


def _guards(rows: Sequence[KindScores]) -> str:
    head = _line("guards", ["utterances", "second looks"]) + "  marks"
    lines = []
    for row in rows:
        ours = row.scores["ours"]
        marks = ", ".join(f"{mark} {count}" for mark, count in sorted(ours.marks.items()))
        lines.append(_line(row.name, [str(row.utterances), str(ours.second_looks)]) + f"  {marks}".rstrip())
    return "\n".join([head, *lines])


def _error_cell(score: Score) -> str:
    if not score.errors.spoken:
        return f"{score.invented_words} words"
    return f"{100 * score.errors.rate:.1f} ({score.errors.deletions})"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<{_NAME_WIDTH}}" + "".join(f"{cell:>{max(_CELL_WIDTH, len(cell) + 1)}}" for cell in cells)
