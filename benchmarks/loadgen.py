"""The load generator of `benchmarks.live`: many speakers in real time, in a process of its own.

Prints JSON lines: `{"event": "opened"}` and `{"event": "closed"}` around the measured window, then the result.
"""

import argparse
import asyncio
import gc
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop
from picows import ws_connect

from benchmarks.frame_pacer import FramePacer
from benchmarks.listener import BurstSpeaker, MutedSpeaker, Speaker, Window
from benchmarks.speech import FRAME_MS, RATE_HZ, Script, continuous_loop, first_frame, frames, loop
from benchmarks.stability import slope_ms_per_min
from processor.speech import SegmenterSettings
from stenolog.client.edge import stream_url

CONNECTING = 32  # handshakes at once: quick, and below what would fill a listening queue
JOINS_PER_S = 250  # a thousand sessions in four seconds, so that opening them doesn't drown the measurement
STAGGER_S = 15.0  # readers without pauses begin over so long, or their utterances would be cut in step for ever
SETTLE_S = 3.0  # after the last joined: the queues of the ramp drain
STOPS_PER_S = 250  # as they came
DRAIN_S = 30.0  # for the last finals and transcripts
BOUND_S = 2.0  # a session keeps up if each of its finals came within this
CONNECT_S = 30.0  # bound of one handshake, on a machine that is short of processors


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """50th, 95th and 99th in milliseconds; None without any value."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    return {
        f"p{rank}": round(1000 * ranked[min(len(ranked) - 1, math.ceil(len(ranked) * rank / 100) - 1)], 1)
        for rank in (50, 95, 99)
    }


class Load:
    """One run."""

    def __init__(self, url: str, arguments: argparse.Namespace) -> None:
        """Stream sessions to `url`, and measure for some seconds once all speak, as the arguments say."""
        self._url = stream_url(url, {"sample_rate": str(RATE_HZ)})
        self._seconds = arguments.seconds
        self.cut = frames(continuous_loop() if arguments.speech == "continuous" else loop())
        self.pacer = FramePacer(FRAME_MS / 1000)
        self.window = Window()
        is_staggered = arguments.speech == "continuous" and not arguments.in_step
        self._joins_per_s = min(JOINS_PER_S, arguments.sessions / STAGGER_S) if is_staggered else JOINS_PER_S
        places = [0 if arguments.in_step else first_frame(one, len(self.cut)) for one in range(arguments.sessions)]
        self.muted = [MutedSpeaker(self.pacer, self.window, self.cut) for _ in range(arguments.muted)]
        self.speakers = [*(Speaker(self.pacer, self.window, self.cut, place) for place in places), *self.muted]
        self.burst: BurstSpeaker | None = None
        if arguments.burst_s:
            burst_cut = frames(continuous_loop())
            self.burst = BurstSpeaker(self.pacer, self.window, burst_cut, arguments.burst_s)

    async def run(self) -> dict[str, Any]:
        """Connect, speak, measure, stop; returns the counts and latencies."""
        self.pacer.start()
        await self._connect()
        await asyncio.sleep(SETTLE_S)
        gc.collect()
        gc.freeze()
        cpu_s, frame_count = _cpu_s(), self.window.frames
        self.window.opened = time.perf_counter()
        self.pacer.records_lateness = True
        _print_line(event="opened")
        if self.burst is not None:
            self.burst.begin()
        await asyncio.sleep(self._seconds)
        self.window.closed = time.perf_counter()
        self.pacer.records_lateness = False
        frame_count, cpu_s = self.window.frames - frame_count, _cpu_s() - cpu_s
        _print_line(event="closed")
        await self._stop()
        seconds = self.window.closed - self.window.opened
        return self._measured(seconds, frame_count, cpu_s)

    async def _connect(self) -> None:
        gate = asyncio.Semaphore(CONNECTING)

        async def join(speaker: Speaker, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            async with gate:
                try:
                    await ws_connect(lambda: speaker, self._url, websocket_handshake_timeout=CONNECT_S)
                    await asyncio.wait_for(speaker.started.wait(), CONNECT_S)
                except Exception as error:  # noqa: BLE001 - whatever it is, it counts as this session's error
                    speaker.errors.append(type(error).__name__)
                    speaker.over.set()

        joining = [*self.speakers, self.burst] if self.burst is not None else self.speakers
        await asyncio.gather(*(join(speaker, number / self._joins_per_s) for number, speaker in enumerate(joining)))

    async def _stop(self) -> None:
        """Let each session end, a few at a time, and wait for what it is owed."""
        for number, speaker in enumerate(self.speakers):
            rounds = int(number / STOPS_PER_S / (FRAME_MS / 1000))
            if speaker.slot >= 0:
                speaker.last_turn = self.pacer.turn_of(speaker.slot) + 1 + rounds
        waiting = [*self.speakers, self.burst] if self.burst is not None else self.speakers
        waits = [asyncio.ensure_future(speaker.over.wait()) for speaker in waiting]
        await asyncio.wait(waits, timeout=DRAIN_S + len(self.speakers) / STOPS_PER_S)
        for wait in waits:
            wait.cancel()
        self.pacer.stop()

    def _measured(self, seconds: float, frame_count: int, cpu_s: float) -> dict[str, Any]:
        window = self.window
        errors = [error for speaker in self.speakers for error in speaker.errors]
        return {
            "seconds": round(seconds, 2),
            "frames": frame_count,
            "frames_per_s": round(frame_count / seconds, 1),
            "ack_ms": percentiles(window.ack_s),
            "final_ms": percentiles(window.final_s),
            "partial_ms": percentiles(window.partial_s),
            "first_partial_ms": percentiles(window.first_partial_s),
            "stable_words": window.stable_words,
            "stable_words_changed": window.changed_words,
            "final_growth_ms_per_min": slope_ms_per_min(window.finals_at),
            "acks": len(window.ack_s),
            "partials": len(window.partial_s),
            "finals": len(window.final_s),
            "keeps_up": sum(not speaker.errors and speaker.worst_s <= BOUND_S for speaker in self.speakers),
            "errors": {error: errors.count(error) for error in sorted(set(errors))},
            "late_ms": percentiles(self.pacer.late_s),
            **self._measured_clients(),
            "loadgen_cpu_s": round(cpu_s, 2),
            "loadgen_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }


    def _measured_clients(self) -> dict[str, Any]:
        """What the odd clients saw, if any take part."""
        found: dict[str, Any] = {}
        if self.burst is not None:
            found["burst_done_s"] = None if self.burst.done_s is None else round(self.burst.done_s, 1)
        if self.muted:
            finals = [one.final_after_s for one in self.muted if one.final_after_s is not None]
            found["muted_partials"] = [one.partials_after for one in self.muted]
            found["muted_final_ms"] = percentiles(finals)
            found["muted_finals"] = len(finals)
        return found


class Result:
    """Compares the sessions' finals and transcripts with the expected ones."""

    def __init__(self, load: Load, engine: str, settings: SegmenterSettings) -> None:
        """With the mock recogniser, texts and boundaries are compared too."""
        self.lost = self.duplicated = self.wrong = self.missing_transcripts = self.unended = 0
        scripts: dict[int, Script] = {}
        most = max((speaker.frames_sent for speaker in load.speakers if speaker.slot >= 0), default=0)
        for speaker in load.speakers:
            if speaker.slot < 0:
                continue
            numbers = [final["utterance"] for final in speaker.finals]
            self.duplicated += len(numbers) - len(set(numbers))
            if engine == "mock" and not isinstance(speaker, MutedSpeaker):
                if speaker.place not in scripts:
                    scripts[speaker.place] = Script(load.cut, speaker.place, most, settings)
                self._compare(speaker, scripts[speaker.place])
            else:
                # An edge that ends a session before its last facts have come counts none.
                owed = max(speaker.end["utterances"] if speaker.end else 0, 1 + max(numbers, default=-1))
                self.lost += owed - len(set(numbers))
            self._compare_transcript(speaker)

    def _compare(self, speaker: Speaker, script: Script) -> None:
        got = {final["utterance"]: final for final in speaker.finals}
        owed = script.finals(speaker.frames_sent)
        for number, final in enumerate(owed):
            if number not in got:
                self.lost += 1
            elif not _matches(got[number], final):
                self.wrong += 1
        self.wrong += len(got.keys() - set(range(len(owed))))

    def _compare_transcript(self, speaker: Speaker) -> None:
        if speaker.end is None:
            self.unended += 1
            return
        transcript = speaker.end["transcript"]
        finals = sorted(speaker.finals, key=lambda final: final["utterance"])
        if transcript is None:
            self.missing_transcripts += 1
        elif transcript != " ".join(final["text"] for final in finals):
            self.wrong += 1


def _matches(final: dict[str, Any], owed: Any) -> bool:  # noqa: ANN401
    got = tuple(round(final[name] * RATE_HZ) for name in ("start", "end", "decided"))
    # Messages hold seconds with three digits: 16 samples.
    near = all(abs(mine - theirs) <= RATE_HZ // 1000 for mine, theirs in zip(got, owed[:3], strict=True))
    return near and final["text"] == owed.text


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _print_line(**line: Any) -> None:  # noqa: ANN401
    print(json.dumps(line), flush=True)


def main() -> None:
    """Run the load that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--engine", default="mock")
    parser.add_argument("--speech", choices=("pausing", "continuous"), default="pausing")
    parser.add_argument("--in-step", action="store_true")
    parser.add_argument("--burst-s", type=float, default=0.0)
    parser.add_argument("--muted", type=int, default=0)
    parser.add_argument("--hangover-ms", type=int, default=SegmenterSettings().hangover_ms)
    parser.add_argument("--vad-mode", type=int, default=SegmenterSettings().vad_mode)
    arguments = parser.parse_args()
    load = Load(arguments.url, arguments)
    measured = uvloop.run(load.run())
    print("checking what came", file=sys.stderr)
    settings = SegmenterSettings(hangover_ms=arguments.hangover_ms, vad_mode=arguments.vad_mode)
    result = Result(load, arguments.engine, settings)
    _print_line(
        event="result", **measured, lost=result.lost, duplicated=result.duplicated, wrong=result.wrong,
        missing_transcripts=result.missing_transcripts, unended=result.unended,
    )


if __name__ == "__main__":
    main()
