"""Names that the suite uses and older trees know otherwise: a tree is run with the names of its time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

COMMANDS = {"projector": "project"}
"""Command of this tree to its older name."""

SETTINGS = {
    "STENOLOG_IDLE_TIMEOUT_S": "STENOLOG_IDLE_S",
    "STENOLOG_MAX_BATCH_CLIPS": "STENOLOG_BATCH_CLIPS",
    "STENOLOG_QUARANTINE_TRIAL_TIMEOUT_S": "STENOLOG_SOLO_TIMEOUT_S",
}
"""Setting of this tree to its older name, of those that the suite sets."""


ADDED = frozenset({"STENOLOG_PAUSE_MS"})
"""Settings of this tree that older ones may lack, of those that the suite sets."""


def has_older_names(tree: Path) -> bool:
    """Whether a tree is from before the renames, all of which came at once: its Procfile shows the command's name."""
    return f"stenolog {COMMANDS['projector']}\n" in (tree / "Procfile").read_text(encoding="utf-8")


def command(tree: Path, role: str) -> str:
    """The command of `tree` that runs a role."""
    return COMMANDS.get(role, role) if has_older_names(tree) else role


def settings(tree: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables by the names that `tree` knows, without those that it lacks."""
    known = (tree / "docs/settings.md").read_text(encoding="utf-8")
    variables = {name: value for name, value in variables.items() if name not in ADDED or name in known}
    if not has_older_names(tree):
        return dict(variables)
    return {SETTINGS.get(name, name): value for name, value in variables.items()}
