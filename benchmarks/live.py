"""Many live sessions over the whole path: `python -m benchmarks.live --sessions 1000 --seconds 30 --engine mock`.

Starts its own stack unless `--url` names one, and prints one JSON line; docs/benchmarks.md says how to read it.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from typing import Any, Protocol

from benchmarks.stack import Stack, Usage

MOST_SESSIONS, MOST_SECONDS = 10_000, 3600
"""Bounds against a typing error: more sessions than any one machine carries, an hour."""

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
            stack = Stack(engine=arguments.engine, workers=arguments.workers, environment=limits)
            exits.enter_context(stack)
        result = load(arguments, stack)
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
    arguments = parser.parse_args()
    if not (0 < arguments.sessions <= MOST_SESSIONS and 0 < arguments.seconds <= MOST_SECONDS):
        parser.error(f"at most {MOST_SESSIONS} sessions and {MOST_SECONDS} seconds")
    return arguments


class Measured(Protocol):
    """A stack whose processes are measured."""

    @property
    def url(self) -> str:
        """The edge's address."""
        ...

    def usage(self) -> dict[str, Usage]:
        """What each role uses."""
        ...


def load(arguments: argparse.Namespace, stack: Measured | None) -> dict[str, Any]:
    """Run the load generator against `stack`, or the URL in the arguments without one; returns what it measured.

    Raises:
        SystemExit: if the load generator fails.
    """
    url = stack.url if stack is not None else arguments.url
    command = [
        sys.executable, "-m", "benchmarks.loadgen", "--url", url, "--sessions", str(arguments.sessions),
        "--seconds", str(arguments.seconds), "--engine", arguments.engine,
    ]
    before: dict[str, Usage] = {}
    after: dict[str, Usage] = {}
    generator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in generator.stdout or ():
            event = json.loads(line)
            kind = event.pop("event")
            print(f"{kind}", file=sys.stderr)
            if kind == "result":
                return _with_usage(event, before, after)
            if stack is not None:
                (before if kind == "opened" else after).update(stack.usage())
    finally:
        generator.terminate()
        try:
            generator.wait(STOP_S)
        except subprocess.TimeoutExpired:
            generator.kill()
            generator.wait()
    raise SystemExit("the load generator failed")


def _with_usage(result: dict[str, Any], before: dict[str, Usage], after: dict[str, Usage]) -> dict[str, Any]:
    """The result with what each role used in the window."""
    cpu_s = {role: round(after[role].cpu_s - usage.cpu_s, 2) for role, usage in before.items()}
    cpu_s["loadgen"] = result.pop("loadgen_cpu_s")
    rss_mb = {role: round(usage.rss_mb, 1) for role, usage in after.items()}
    rss_mb["loadgen"] = result.pop("loadgen_rss_mb")
    cores = {role: round(used / result["seconds"], 3) for role, used in cpu_s.items()}
    return {**result, "cpu_s": cpu_s, "cores": cores, "rss_mb": rss_mb}


if __name__ == "__main__":
    main()
