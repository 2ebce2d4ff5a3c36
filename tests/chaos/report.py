"""The table that a run prints, and the file that it keeps of a failure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.recovery import Recovery
from tests.chaos.suite import Outcome

MAX_PRINTED = 30
"""Findings printed; the file has all of them."""


def quantile(waits: Sequence[float], share: float) -> float:
    """The quantile `share` of the waits; 0 for none."""
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def failed(outcome: Outcome) -> bool:
    """Whether anything was lost, duplicated or left behind."""
    return not outcome.findings.is_clean or bool(outcome.left)


def table(outcome: Outcome, seed: int, lease_ms: int, took_s: float) -> str:
    """The table that a run prints."""
    findings, waits = outcome.findings, outcome.recovery.recoveries if outcome.recovery else []
    claims = [one for one in waits if one.of_claim]
    taken = [one for one in claims if one.session_id not in outcome.trials]
    suspected = [one for one in claims if one.session_id in outcome.trials]
    lines = [
        f"seed {seed}, lease {lease_ms} ms, {took_s:.0f} s", "",
        "| fault | times | p50 s | p95 s | worst s |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for kind, times in sorted(Counter(fault.kind for fault, _ in outcome.faults).items()):
        lines.append(f"| {kind} | {times} | {_waits([one for one in waits if one.kind == kind])} |")
    lines += [
        "", "| | |", "|---|---|",
        f"| faults | {len(outcome.faults)} |",
        f"| sessions | {outcome.sessions} |",
        f"| connections | {outcome.connections} |",
        f"| utterances | {findings.utterances} |",
        f"| audio | {findings.audio_s:.0f} s |",
        f"| lost | {len(findings.lost)} |",
        f"| duplicated | {len(findings.duplicated)} |",
        f"| otherwise wrong | {len(findings.wrong)} |",
        f"| left behind | {len(outcome.left)} |",
        f"| poisoned sessions quarantined | {outcome.poisoned}, {outcome.deaths_by_poison} workers killed by them |",
        f"| taken by power loss | {_losses(outcome)} |",
        f"| sessions of a struck worker: next commit (p50, p95, worst) | {_waits(taken)} |",
        f"| those of them with a quarantine trial | {_waits(suspected)} |",
        f"| all other sessions: next ack (p50, p95, worst) | {_waits([one for one in waits if not one.of_claim])} |",
    ]  # fmt: skip
    wrong = [*findings.lost, *findings.duplicated, *findings.wrong, *outcome.left]
    return "\n".join([*lines, *(["", *wrong[:MAX_PRINTED]] if wrong else [])])


def _losses(outcome: Outcome) -> str:
    findings = outcome.findings
    return (
        f"{outcome.lost_bytes} bytes of the file; {outcome.lost_sessions} sessions just opened, "
        f"{findings.taken_s:.1f} s of clients that had left, {findings.holes} holes reported, {outcome.resets} resets"
    )


def keep(outcome: Outcome, directory: Path, seed: int) -> Path:
    """Write the outcome beside the logs, for an investigation; returns the file."""
    file = directory / "outcome.json"
    findings = outcome.findings
    file.write_text(json.dumps({
        "seed": seed, "lost": findings.lost, "duplicated": findings.duplicated, "wrong": findings.wrong,
        "left": outcome.left, "faults": outcome.faults, "trials": sorted(outcome.trials),
        "recoveries": outcome.recovery.recoveries if outcome.recovery else [],
    }, indent=1))  # fmt: skip
    return file


def _waits(waits: Sequence[Recovery]) -> str:
    if not waits:
        return "- | - | -"
    found = [one.waited_s for one in waits]
    return " | ".join(f"{wait:.2f}" for wait in (quantile(found, 0.5), quantile(found, 0.95), max(found)))
