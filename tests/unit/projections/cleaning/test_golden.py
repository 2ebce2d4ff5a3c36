"""Whole stored transcripts, raw and cleaned.

Those named after Whisper are by tiny.en, of the bundled recording (see speech/README.md), of the same with pauses
put within sentences, and of synthetic speech full of hesitations; the others are made up.
"""

from pathlib import Path

import pytest

from eventlog.readmodel.documents import ListedFinal, decode_final
from projections.cleaning import clean
from tests.support.tree import ROOT

GOLDEN = ROOT / "tests/golden" / "cleaning"


def stored(path: Path) -> list[ListedFinal]:
    """The finals in a file, an entry of the List a line."""
    return [decode_final(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("raw", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def test_transcripts_are_cleaned_as_stored(raw: Path) -> None:
    """BATCH-3: each stored transcript becomes the readable text beside it."""
    language = raw.suffixes[0].removeprefix(".")
    assert clean(stored(raw), language) + "\n" == raw.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_readable_text_has_its_transcript() -> None:
    """Every golden text has the transcript that it is made of, and several of each exist."""
    raws, texts = ({path.stem for path in GOLDEN.glob(f"*.{kind}")} for kind in ("jsonl", "txt"))
    assert raws == texts
    assert len(raws) > 5
