"""Layouts of a recording's two channels. Pure."""

from __future__ import annotations

from typing import NamedTuple

AUTO, MIX, SPLIT = "auto", "mix", "split"
"""The channels are judged, become one, or stay two."""


class Judgement(NamedTuple):
    """How two channels relate.

    Attributes:
        layout: `MIX` or `SPLIT`; empty without two channels.
        delay_samples: By which the second channel lags the first; 0 unless they carry the same.
        is_inverted: Whether they have opposite polarity.
    """

    layout: str = ""
    delay_samples: int = 0
    is_inverted: bool = False


class ChannelOptions(NamedTuple):
    """What a session takes of a recording.

    Attributes:
        layout: `AUTO`, `MIX` or `SPLIT`.
        is_recorded: Whether it is a recorded file, of which more may be held back before it is judged.
        max_held_bytes: The file's first bytes, whose samples are held back at most; 0: not bound.
        track: Of its audio tracks, from 0; -1: the default one.
    """

    layout: str = AUTO
    is_recorded: bool = False
    max_held_bytes: int = 0
    track: int = -1
