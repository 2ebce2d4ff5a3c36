"""Many live sessions over the whole path: `python -m benchmarks.live --sessions 1000 --seconds 30 --engine mock`.

Starts its own stack unless `--url` names one, and prints one JSON line; docs/benchmarks.md says how to read it. With
several kinds of speech, `--burst` or `--muted` it measures one phase after the other on the same stack.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from benchmarks.stack import Stack, Usage, free_ports

MOST_SESSIONS, MOST_SECONDS = 10_000, 3600
"""Bounds against a typing error: more sessions than any one machine carries, an hour."""

BURST_S = 185.0
"""Of speech that the client of `--burst` sends at once: three minutes without a network."""

STOP_S = 10.0  # for the load generator to end once it is asked to


def main() -> None:
    """Run the benchmark that the arguments describe."""
    arguments = _arguments()
    with contextlib.ExitStack() as exits:
        stack = None
        if arguments.url is None:
            limits = {
                "STENOLOG_MAX_SESSIONS": str(arguments.sessions + 16),
                "STENOLOG_WORKER_CAPACITY": str(arguments.sessions + 16),
            }
            stack = Stack(
                engine=arguments.engine, workers=arguments.workers, environment=limits, metrics_port=free_ports(),
            )  # fmt: skip
            exits.enter_context(stack)
        phases = plan_phases(arguments)
        found = {name: load(arguments, stack, options) for name, options in phases.items()}
    # One phase without any option is the load that this benchmark began with.
    result = found["pausing"] if list(phases) == ["pausing"] else {"phases": found, **compare_phases(found)}
    line = {"benchmark": "live", "engine": arguments.engine, "sessions": arguments.sessions, **result}
    print(json.dumps(line), flush=True)
    if stack is not None and stack.complaints:
        print(f"the stack complained {len(stack.complaints)} times, first:\n{stack.complaints[0]}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0, help="measured, after all sessions speak")
    parser.add_argument("--engine", choices=("mock", "whisper"), default="mock")
    parser.add_argument("--url", help="a running edge on this machine, instead of a stack of its own")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pausing", action="store_true", help="sentences with pauses between them; the default")
    parser.add_argument("--continuous", action="store_true", help="readers without long pauses")
    parser.add_argument("--in-step", action="store_true", help="all sessions begin at the same place")
    parser.add_argument("--burst", action="store_true", help=f"beside one that sends {BURST_S:.0f} s at once")
    parser.add_argument("--muted", type=int, default=0, help="so many more that stop in mid-word")
    arguments = parser.parse_args()
    if not (0 < arguments.sessions <= MOST_SESSIONS and 0 < arguments.seconds <= MOST_SECONDS):
        parser.error(f"at most {MOST_SESSIONS} sessions and {MOST_SECONDS} seconds")
    return arguments


def plan_phases(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The phases that the arguments ask for, by name, each with the load generator's options."""
    in_step = ["--in-step"] if arguments.in_step else []
    speech = "continuous" if arguments.continuous and not arguments.pausing else "pausing"
    phases = {}
    if arguments.pausing or not (arguments.continuous or arguments.burst or arguments.muted):
        phases["pausing"] = in_step
    if arguments.continuous:
        phases["continuous"] = ["--speech", "continuous", *in_step]
    if arguments.burst:
        phases.setdefault(speech, ["--speech", speech, *in_step])
        phases["beside_burst"] = ["--speech", speech, *in_step, "--burst-s", str(BURST_S)]
    if arguments.muted:
        phases["muted"] = ["--speech", speech, "--muted", str(arguments.muted)]
    return phases


def compare_phases(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How the finals' latencies of the phases relate."""
    compared: dict[str, Any] = {}
    pausing, continuous, burst = (
        found.get(name, {}).get("final_ms") for name in ("pausing", "continuous", "beside_burst")
    )
    if pausing and continuous:
        compared["continuous_p95_ratio"] = round(continuous["p95"] / pausing["p95"], 2)
    if burst and (alone := pausing or continuous):
        compared["later_beside_burst_ms"] = {rank: round(burst[rank] - alone[rank], 1) for rank in alone}
    return compared


class Measured(Protocol):
    """A stack whose processes are measured."""

    @property
    def url(self) -> str:
        """The edge's address."""
        ...

    def usage(self) -> dict[str, Usage]:
        """What each role uses."""
        ...

    def recognition(self) -> dict[str, float]:
        """What the workers' recognisers did so far; empty if unknown."""
        ...


def load(arguments: argparse.Namespace, stack: Measured | None, options: Sequence[str] = ()) -> dict[str, Any]:
    """Run the load generator against `stack`, or the URL in the arguments without one; returns what it measured.

    It gets `options` beside the arguments.

    Raises:
        SystemExit: if the load generator fails.
    """
    url = stack.url if stack is not None else arguments.url
    command = [
        sys.executable, "-m", "benchmarks.loadgen", "--url", url, "--sessions", str(arguments.sessions),
        "--seconds", str(arguments.seconds), "--engine", arguments.engine, *options,
    ]
    usages: list[dict[str, Usage]] = []
    recognitions: list[dict[str, float]] = []
    generator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in generator.stdout or ():
            event = json.loads(line)
            kind = event.pop("event")
            print(f"{kind}", file=sys.stderr)
            if kind == "result":
                return _with_recognition(_with_usage(event, usages), recognitions)
            if stack is not None:
                usages.append(stack.usage())
                recognitions.append(stack.recognition())
    finally:
        generator.terminate()
        try:
            generator.wait(STOP_S)
        except subprocess.TimeoutExpired:
            generator.kill()
            generator.wait()
    raise SystemExit("the load generator failed")


def _with_usage(result: dict[str, Any], usages: list[dict[str, Usage]]) -> dict[str, Any]:
    """The result with what each role used in the window."""
    before, after = usages or ({}, {})
    cpu_s = {role: round(after[role].cpu_s - usage.cpu_s, 2) for role, usage in before.items()}
    cpu_s["loadgen"] = result.pop("loadgen_cpu_s")
    rss_mb = {role: round(usage.rss_mb, 1) for role, usage in after.items()}
    rss_mb["loadgen"] = result.pop("loadgen_rss_mb")
    cores = {role: round(used / result["seconds"], 3) for role, used in cpu_s.items()}
    return {**result, "cpu_s": cpu_s, "cores": cores, "rss_mb": rss_mb}


def _with_recognition(result: dict[str, Any], recognitions: list[dict[str, float]]) -> dict[str, Any]:
    """The result with what the recognisers did in the window, by kind of text."""
    before, after = recognitions or ({}, {})
    did = {name: round(value - before.get(name, 0.0), 2) for name, value in sorted(after.items())}
    return {**result, "recognition": did} if did else result


if __name__ == "__main__":
    main()
