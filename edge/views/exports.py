"""A transcript as JSON, plain text, SRT and WebVTT. No input or output."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from edge import errors
from edge.captions.cues import make_cues, speaker_name
from edge.errors import ApiError
from eventlog.readmodel.documents import ListedFinal, stitch


class Format(enum.Enum):
    """A format of transcripts: its media type and its suffix."""

    JSON = "application/json", "json"
    TEXT = "text/plain", "txt"
    VTT = "text/vtt", "vtt"
    SRT = "application/x-subrip", "srt"

    @property
    def media_type(self) -> str:
        """As in ``Accept`` and ``Content-Type``."""
        return self.value[0]

    @property
    def suffix(self) -> str:
        """As in an address or a file's name."""
        return self.value[1]


class _Range(NamedTuple):
    """One part of an ``Accept`` header."""

    kind: str
    quality: float
    place: int

    def covers(self, media_type: str) -> int:
        """How exactly it names `media_type`: 0 for not at all."""
        if self.kind == media_type:
            return 3
        if self.kind == media_type.partition("/")[0] + "/*":
            return 2
        return int(self.kind == "*/*")


def negotiate(accept: str) -> Format:
    """Choose the format that an ``Accept`` header prefers; JSON if it has no preference.

    Of each format the part that names it most exactly counts (RFC 9110, 12.5.1). Equal ones go by their order in
    the header, then by ours.

    Raises:
        ApiError: `not_acceptable` if it accepts none of them.
    """
    ranges = list(_ranges(accept))
    if not accept.strip():
        return Format.JSON
    best: tuple[float, int] = (0.0, 0)
    chosen: Format | None = None
    for candidate in Format:
        fitting = [one for one in ranges if one.covers(candidate.media_type)]
        if not fitting:
            continue
        exact = max(fitting, key=lambda one: one.covers(candidate.media_type))
        if exact.quality > 0 and (exact.quality, -exact.place) > best:
            best, chosen = (exact.quality, -exact.place), candidate
    if chosen is None:
        offered = ", ".join(one.media_type for one in Format)
        raise ApiError(errors.NOT_ACCEPTABLE, f"a transcript is available as {offered}")
    return chosen


def _ranges(accept: str) -> Iterator[_Range]:
    for place, part in enumerate(accept.split(",")):
        kind, *options = (piece.strip().lower() for piece in part.split(";"))
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            continue
        if 0 <= weight <= 1:
            yield _Range(kind, weight, place)


def render(wanted: Format, finals: Sequence[ListedFinal]) -> str:
    """The finals as text, SRT or WebVTT.

    Raises:
        ValueError: for JSON, whose objects are the caller's own.
    """
    match wanted:
        case Format.TEXT:
            return plain_text(finals)
        case Format.SRT:
            return srt(finals)
        case Format.VTT:
            return vtt(finals)
        case Format.JSON:
            raise ValueError("the caller encodes JSON")


def plain_text(finals: Sequence[ListedFinal]) -> str:
    """The words; with several speakers, a paragraph a turn with the speaker's name before it."""
    if len({final.speaker for final in finals}) <= 1:
        text = stitch(finals)
        return f"{text}\n" if text else ""
    turns: list[list[ListedFinal]] = []
    for final in finals:
        if not turns or turns[-1][0].speaker != final.speaker:
            turns.append([])
        turns[-1].append(final)
    return "\n".join(f"{speaker_name(turn[0].speaker)}: {stitch(turn)}\n" for turn in turns)


def srt(finals: Sequence[ListedFinal]) -> str:
    """SubRip captions; with several speakers, each names its own."""
    several = len({final.speaker for final in finals}) > 1
    blocks = []
    for number, cue in enumerate(make_cues(finals, named=several), 1):
        # The format has no escapes, and players take an arrow for a line of times.
        text = "\n".join(cue.lines).replace("-->", "->")
        blocks.append(f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n{text}\n")
    return "\n".join(blocks)


def vtt(finals: Sequence[ListedFinal]) -> str:
    """WebVTT captions, each in its speaker's voice."""
    blocks = ["WEBVTT\n"]
    for cue in make_cues(finals):
        voice = f"<v {_escaped(cue.speaker)}>" if cue.speaker else ""
        text = voice + "\n".join(map(_escaped, cue.lines))
        blocks.append(f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{text}\n")
    return "\n".join(blocks)


_MS = 1000


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(at_ms: int, point: str) -> str:
    seconds, ms = divmod(at_ms, _MS)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"
