"""Utterances as the List holds them."""

from collections.abc import Sequence

from eventlog.readmodel.documents import ListedFinal

UTTERANCE_S = 2.0


def said(*texts: str, pause_s: float = 0.5, voices: Sequence[tuple[int, str]] = ()) -> list[ListedFinal]:
    """One final a text, with a pause after each; `voices`: channel and speaker of each, otherwise the same."""
    finals = []
    for number, text in enumerate(texts):
        start = number * (UTTERANCE_S + pause_s)
        channel, speaker = voices[number] if voices else (0, "1")
        finals.append(ListedFinal(
            utterance=number, text=text, start=start, end=start + UTTERANCE_S, decided=start + UTTERANCE_S,
            confidence=0.9, speaker=speaker, channel=channel,
        ))  # fmt: skip
    return finals
