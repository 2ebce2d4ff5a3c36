"""Layouts of a recording's two channels. Pure."""

from __future__ import annotations

from typing import NamedTuple

AUTO, MIX, SPLIT = "auto", "mix", "split"
"""The channels are judged, become one, or stay two."""


class Judgement(NamedTuple):
    """How two channels relate.

    Attributes:
        layout: `MIX` or `SPLIT`; empty if there are not two channels.
        delay_samples: By which the second channel lags the first; 0 unless they carry the same.
        is_inverted: Whether they have opposite polarity.
    """

    layout: str = ""
    delay_samples: int = 0
    is_inverted: bool = False
