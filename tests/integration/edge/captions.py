"""Strict parsers of caption files, as picky players are."""

import re
from typing import NamedTuple

TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)([,.])(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)([,.])(\d{3})")
ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
VOICE = re.compile(r"<v ([^<>&\n]|&(?:amp|lt|gt);)+>")


class Caption(NamedTuple):
    """One cue as a player sees it."""

    start_ms: int
    end_ms: int
    voice: str
    lines: list[str]


def parse_srt(text: str) -> list[Caption]:
    """The captions of a SubRip file, which may be empty."""
    found = []
    for number, block in enumerate(blocks(text), 1):
        lines = block.split("\n")
        assert lines[0] == str(number)
        start_ms, end_ms = times(lines[1], ",")
        assert lines[2:]
        assert not any("-->" in line for line in lines[2:])
        found.append(Caption(start_ms, end_ms, "", lines[2:]))
    return found


def parse_vtt(text: str) -> list[Caption]:
    """The captions of a WebVTT file."""
    head, _, rest = text.partition("\n")
    assert head == "WEBVTT"
    assert rest == "" or rest.startswith("\n")
    found = []
    for block in blocks(rest.removeprefix("\n")):
        lines = block.split("\n")
        start_ms, end_ms = times(lines[0], ".")
        payload = "\n".join(lines[1:])
        voice = VOICE.match(payload)
        words = payload[voice.end() :] if voice else payload
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", words)
        name = plain(voice[0][3:-1]) if voice else ""
        found.append(Caption(start_ms, end_ms, name, plain(words).split("\n")))
    return found


def blocks(text: str) -> list[str]:
    """What blank lines part; the file ends with a line's end."""
    if not text:
        return []
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    found = text[:-1].split("\n\n")
    assert all(block and not block.startswith("\n") for block in found)
    return found


def times(line: str, point: str) -> tuple[int, int]:
    """A caption's times, ms."""
    match = TIMES.fullmatch(line)
    assert match, line
    values = match.groups()
    assert (values[3], values[8]) == (point, point)
    start_ms, end_ms = (
        1000 * (3600 * int(hours) + 60 * int(minutes) + int(seconds)) + int(ms)
        for hours, minutes, seconds, _, ms in (values[:5], values[5:])
    )
    assert start_ms < end_ms
    return start_ms, end_ms


def plain(text: str) -> str:
    """Text without its escapes."""
    return re.sub("|".join(ENTITIES), lambda match: ENTITIES[match[0]], text)
