"""One long recording over the whole path: `python -m benchmarks.batch --minutes 60 --engine whisper --workers 2`.

Starts its own stack, sends a WAV to `POST /batch/process`, listens to its status, and prints one JSON line;
docs/benchmarks.md says how to read it.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from benchmarks.recording import LoopedRecording
from benchmarks.stack import Stack
from benchmarks.stack_monitor import ReceivedStatus, StackMonitor
from eventlog.codec import decode_fact
from eventlog.events import ProgressNoted, SessionEnded, UtteranceFinal
from eventlog.keys import READ_MODELS, Keys
from eventlog.redis.server import DEFAULT_PARTITIONS

MOST_MINUTES = 240.0
"""The longest session by default."""

PATH = "/batch/process"
SOCKET_S = 600.0  # the server reads no faster than it works
ASK_AGAIN_S = 0.5
MOST_S = 3600.0  # bound of the whole
MILESTONES = (10, 25, 50, 75, 90, 100)


def send(url: str, recording: LoopedRecording) -> tuple[float, float, dict[str, Any]]:
    """Seconds until all was sent, seconds until the answer, and the answer.

    Raises:
        SystemExit: if the recording is refused, or doesn't come to an end.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SOCKET_S)
    started = time.perf_counter()
    connection.putrequest("POST", PATH)
    connection.putheader("Content-Type", recording.content_type)
    connection.putheader("Content-Length", str(recording.form_bytes))
    connection.endheaders()
    for piece in recording.pieces():
        connection.send(piece)
    sent_s = time.perf_counter() - started
    status, result = _answer(connection)
    while status == http.client.ACCEPTED and time.perf_counter() - started < MOST_S:
        time.sleep(ASK_AGAIN_S)
        connection.request("GET", result["result_url"])
        status, result = _answer(connection)
    answered_s = time.perf_counter() - started
    connection.close()
    if status != http.client.OK:
        raise SystemExit(f"the recording was answered {status}: {result}")
    return sent_s, answered_s, result


def _answer(connection: http.client.HTTPConnection) -> tuple[int, dict[str, Any]]:
    answer = connection.getresponse()
    body: dict[str, Any] = json.loads(answer.read())
    return answer.status, body


def reached_ms(redis_url: str, session_id: str) -> list[tuple[float, float]]:
    """Seconds of audio that were processed, and since when, Unix ms, by the facts."""
    run = Keys(DEFAULT_PARTITIONS).of(session_id).run()
    reached: list[tuple[float, float]] = []
    with redis.Redis.from_url(redis_url) as client:
        entries: Any = client.xrange(run.transcript)
    for _, fields in entries:
        match decode_fact(fields[b"fact"]):
            case UtteranceFinal(decided_samples=samples, sample_rate_hz=rate, committed_ms=at_ms):
                reached.append((samples / rate, at_ms))
            case ProgressNoted(processed_samples=samples, sample_rate_hz=rate, noted_ms=at_ms):
                reached.append((samples / rate, at_ms))
            case SessionEnded(audio_samples=samples, sample_rate_hz=rate, ended_ms=at_ms):
                reached.append((samples / rate, at_ms))
            case _:
                pass
    return reached


def milestones(
    statuses: Sequence[ReceivedStatus], reached: Sequence[tuple[float, float]], seconds: float
) -> dict[str, Any]:
    """By milestone: when its message came, seconds after the first one, and how long after the audio was that far."""
    found: dict[str, Any] = {}
    for percent in MILESTONES:
        came = next((one for one in statuses if one.message.progress == percent), None)
        due_ms = next((at_ms for processed_s, at_ms in reached if processed_s + 0.001 >= seconds * percent / 100), None)
        found[str(percent)] = None if came is None or due_ms is None else {
            "after_s": round((came.at_ms - statuses[0].at_ms) / 1000, 2), "late_ms": round(came.at_ms - due_ms),
            "processed_s": came.message.duration_processed,
        }  # fmt: skip
    return found


def measured(stack: Stack, recording: LoopedRecording, engine: str) -> dict[str, Any]:
    """Send the recording, and return its measurements."""
    before = {role: usage.cpu_s for role, usage in stack.usage().items()}
    with StackMonitor(stack) as watch:
        print(f"sending {recording.seconds / 60:.1f} minutes", file=sys.stderr)
        sent_s, answered_s, result = send(stack.url, recording)
        cpu_s = {role: round(usage.cpu_s - before[role], 1) for role, usage in stack.usage().items()}
        time.sleep(ASK_AGAIN_S)  # the last message may be on its way
    mine = [one for one in watch.statuses if one.message.session_id == result["interaction_id"]]
    reached = reached_ms(stack.redis_url, result["interaction_id"])
    return {
        "audio_s": round(recording.seconds, 1), "sent_s": round(sent_s, 1), "answered_s": round(answered_s, 1),
        "times_real_time": round(recording.seconds / answered_s, 1),
        "utterances": len(result["segments"]), "reason": result["reason"],
        "missing_s": round(recording.seconds - result["audio_seconds"], 3),
        "raw_characters": len(result["raw_transcript"]), "cleaned_characters": len(result["cleaned_transcript"]),
        **({"wer": round(recording.word_error_rate(result["segments"]), 4)} if engine == "whisper" else {}),
        "milestones": milestones(mine, reached, recording.seconds),
        "status_messages": len(mine), "cpu_s": cpu_s, "peak_rss_mib": dict(sorted(watch.peak_rss_mib.items())),
        "redis_used_peak_mib": round(watch.redis_used_mib, 1),
    }  # fmt: skip


def main() -> None:
    """Run the benchmark that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of speech with pauses")
    parser.add_argument("--engine", choices=("mock", "whisper"), default="whisper")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if not 0 < arguments.minutes < MOST_MINUTES:
        parser.error(f"less than {MOST_MINUTES:.0f} minutes")
    # No forwarding: the machine may have credentials, and the benchmark must not use their bus.
    environment = {"STENOLOG_PROJECTIONS": ",".join(READ_MODELS)}
    with Stack(engine=arguments.engine, workers=arguments.workers, environment=environment) as stack:
        result = measured(stack, LoopedRecording(60 * arguments.minutes), arguments.engine)
        complaints = stack.complaints
    line = {"benchmark": "batch", "engine": arguments.engine, "workers": arguments.workers, **result}
    print(json.dumps(line), flush=True)
    if complaints:
        print(f"the stack complained {len(complaints)} times, first:\n{complaints[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
