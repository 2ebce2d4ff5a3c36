"""Talk time and words per minute of speakers, counted from utterances. Pure."""

from __future__ import annotations

from typing import TypedDict

from projections.kafka.records import TranscriptUtterance

_MINUTE_S = 60


class TalkTime(TypedDict):
    """One speaker of one session in one window, as JSON has it."""

    words: int
    talk_s: float


class RecentIds:
    """The ids of the last events: a sender that delivers at least once delivers some twice."""

    def __init__(self, most: int) -> None:
        """Keep `most` ids; duplicates come within seconds, or after a restart of either side."""
        self._most = most
        self._ids: dict[str, None] = {}  # a dict keeps the order in which they came

    def add(self, event_id: str) -> bool:
        """Add an id; whether it is new."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]
        return True


def no_talk() -> TalkTime:
    """The talk time before the first utterance."""
    return {"words": 0, "talk_s": 0.0}


def add_utterance(talk: TalkTime, utterance: TranscriptUtterance) -> TalkTime:
    """The talk time with this utterance as well. Words are separated by blanks."""
    return {
        "words": talk["words"] + len(utterance.text.split()),
        "talk_s": round(talk["talk_s"] + utterance.end - utterance.start, 3),
    }


def words_per_minute(talk: TalkTime) -> float:
    """Words per minute of the speaker's own talk time; 0 for no time."""
    return talk["words"] / talk["talk_s"] * _MINUTE_S if talk["talk_s"] > 0 else 0.0


def format_line(session_id: str, speaker: str, talk: TalkTime) -> str:
    """A line for a person to read; it holds no speech."""
    return (f"{session_id} speaker {speaker}: {words_per_minute(talk):.0f} words per minute, "
            f"{talk['talk_s']:.1f} s of talk")
