"""Who speaks how much and how fast, counted from utterances. Pure."""

from __future__ import annotations

from typing import TypedDict

from projections.kafka.records import TranscriptUtterance

_MINUTE_S = 60


class Spoken(TypedDict):
    """One speaker of one session in one window, as JSON has it."""

    words: int
    talk_s: float


class Seen:
    """Remembers the ids of the events that came last: whoever sends at least once sends some twice."""

    def __init__(self, most: int) -> None:
        """`most` ids are remembered; what comes again comes within seconds, or after a restart of either side."""
        self._most = most
        self._ids: dict[str, None] = {}  # a dict keeps the order in which they came

    def is_new(self, event_id: str) -> bool:
        """Whether it wasn't among them; now it is."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]
        return True


def nothing() -> Spoken:
    """Before the first utterance."""
    return {"words": 0, "talk_s": 0.0}


def counted(spoken: Spoken, utterance: TranscriptUtterance) -> Spoken:
    """With this utterance as well. Words are what blanks separate."""
    return {
        "words": spoken["words"] + len(utterance.text.split()),
        "talk_s": round(spoken["talk_s"] + utterance.end - utterance.start, 3),
    }


def words_per_minute(spoken: Spoken) -> float:
    """How fast, of the time in which the speaker spoke; 0 for no time."""
    return spoken["words"] / spoken["talk_s"] * _MINUTE_S if spoken["talk_s"] > 0 else 0.0


def line(session_id: str, speaker: str, spoken: Spoken) -> str:
    """For a person to read; holds nothing that was said."""
    return (f"{session_id} speaker {speaker}: {words_per_minute(spoken):.0f} words per minute, "
            f"{spoken['talk_s']:.1f} s of talk")
