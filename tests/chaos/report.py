"""The table at the end, and what is kept for whoever has to look into a failure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.suite import Outcome
from tests.chaos.watch import Recovery

SHOWN = 30
"""Findings printed; all of them are in the file."""


def quantile(waits: Sequence[float], share: float) -> float:
    """The smallest of them that this share of them doesn't exceed; 0 for none."""
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def failed(outcome: Outcome) -> bool:
    """Whether anything was lost or doubled, or left lying about."""
    return not outcome.findings.clean or bool(outcome.left)


def table(outcome: Outcome, seed: int, lease_ms: int, took_s: float) -> str:
    """What is printed."""
    findings, waits = outcome.findings, outcome.watch.recoveries if outcome.watch else []
    claims = [one for one in waits if one.of_claim]
    taken = [one for one in claims if one.session_id not in outcome.tried_alone]
    suspected = [one for one in claims if one.session_id in outcome.tried_alone]
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
        f"| doubled | {len(findings.doubled)} |",
        f"| otherwise wrong | {len(findings.wrong)} |",
        f"| left behind | {len(outcome.left)} |",
        f"| poisoned sessions set aside | {outcome.poisoned}, {outcome.deaths_by_poison} workers died of them |",
        f"| taken by power loss | {_taken(outcome)} |",
        f"| a taken worker's sessions: next commit (p50, p95, worst) | {_waits(taken)} |",
        f"| those of them that were suspected and tried alone | {_waits(suspected)} |",
        f"| everybody else: next ack (p50, p95, worst) | {_waits([one for one in waits if not one.of_claim])} |",
    ]  # fmt: skip
    wrong = [*findings.lost, *findings.doubled, *findings.wrong, *outcome.left]
    return "\n".join([*lines, *(["", *wrong[:SHOWN]] if wrong else [])])


def _taken(outcome: Outcome) -> str:
    findings = outcome.findings
    return (
        f"{outcome.lost_bytes} bytes of the file; {outcome.vanished} sessions just opened, {findings.taken_s:.1f} s of "
        f"clients that had gone, {findings.holes} holes told, {outcome.resets} resets"
    )


def keep(outcome: Outcome, directory: Path, seed: int) -> Path:
    """Write what is needed to look into it beside the logs; the file."""
    file = directory / "outcome.json"
    findings = outcome.findings
    file.write_text(json.dumps({
        "seed": seed, "lost": findings.lost, "doubled": findings.doubled, "wrong": findings.wrong,
        "left": outcome.left, "faults": outcome.faults, "tried_alone": sorted(outcome.tried_alone),
        "recoveries": outcome.watch.recoveries if outcome.watch else [],
    }, indent=1))  # fmt: skip
    return file


def _waits(waits: Sequence[Recovery]) -> str:
    if not waits:
        return "- | - | -"
    found = [one.waited_s for one in waits]
    return " | ".join(f"{wait:.2f}" for wait in (quantile(found, 0.5), quantile(found, 0.95), max(found)))
