"""From what was said to what is read: fillers and stutters out, sentences and paragraphs in. Pure; never adds a word."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.documents import ListedFinal, stitch


def cleaned(finals: Sequence[ListedFinal], language: str) -> str:
    """The readable text of these utterances, in order; paragraphs are separated by an empty line.

    `language` is the code that the session was started with, such as "en".
    """
    del language
    return stitch(finals)
