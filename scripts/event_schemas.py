"""Writes docs/schemas again from the types that bodies are checked against: `python -m scripts.event_schemas`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from projections.eventbridge.bodies import schema
from projections.integration_events import Kind

FOLDER = Path(__file__).parents[1] / "docs/schemas"


def write() -> None:
    """Write a page for each kind of batch event."""
    for kind in (Kind.BATCH_COMPLETED, Kind.BATCH_FAILED):
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()
        (FOLDER / f"{name}.json").write_text(json.dumps(schema(kind), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
