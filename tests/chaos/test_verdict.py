"""The suite's own judgement: whatever is lost, doubled or otherwise wrong in a session's record is told."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from eventlog.events import UtteranceFinal
from eventlog.positions import OPENED
from eventlog.readmodel.documents import encode_final, stitch
from projections.public_json import encode_event, to_listed_final
from tests.chaos.plan import drawn
from tests.chaos.records import Audio, Record
from tests.chaos.speaker import Ack, Speaker
from tests.chaos.store import PowerLoss
from tests.chaos.verdict import Findings, judge
from tests.chaos.voices import undisturbed, voice

ENGINE = "chaos-mock"
SESSION = "0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001"
LOSS = PowerLoss(synced_s=99.0, at_s=100.0, lost_bytes=1)


def spoken() -> tuple[Speaker, Record]:
    """A client that was told everything, and what there is of its session."""
    speaker = Speaker(voice(next(drawn(1, 0).speeches(0))), 0, random.Random(1))
    speaker.session_id, speaker.begun_s, speaker.ended_s = SESSION, 0.0, 50.0
    speaker.acks.append(Ack(speaker.length, 40.0))
    facts = undisturbed(speaker.voice, SESSION, ENGINE, length=speaker.length, reason="stop", holes=())
    finals = [to_listed_final(fact) for _, fact in facts if isinstance(fact, UtteranceFinal)]
    speaker.finals = [{"utterance": final.utterance, "text": final.text} for final in finals]
    speaker.end = {"type": "session_end", "transcript": stitch(finals)}
    feed = [(at, body) for at, fact in facts if at != OPENED and (body := encode_event(fact)) is not None]
    return speaker, Record(
        audio=Audio(speaker.voice.samples.tobytes(), speaker.length, [], sealed=True, gaps=[]), facts=facts,
        listed=[encode_final(final) for final in finals], feed=feed,
        document={"transcript": stitch(finals), "utterances": finals}, view={b"state": b"CLOSED"},
    )  # fmt: skip


def judged(speaker: Speaker, found: Record, *losses: PowerLoss) -> Findings:
    """What the verdict says."""
    findings = Findings()
    judge(findings, speaker, found, losses, ENGINE)
    return findings


def without_final(found: Record) -> dict[str, Any]:
    """No fact of one utterance."""
    final = next(number for number, (_, fact) in enumerate(found.facts) if isinstance(fact, UtteranceFinal))
    return {"facts": [*found.facts[:final], *found.facts[final + 1 :]]}


def silent_end(found: Record) -> dict[str, Any]:
    """A byte of the audio is another."""
    return {"audio": found.audio._replace(pcm=found.audio.pcm[:-1] + b"\1")}


LOST: dict[str, Callable[[Record], dict[str, Any]]] = {
    "fact": without_final,
    "List": lambda found: {"listed": found.listed[1:]},
    "feed": lambda found: {"feed": found.feed[:-1]},
    "document": lambda _: {"document": None},
    "audio": silent_end,
    "end": lambda found: {"audio": found.audio._replace(end_samples=found.audio.end_samples - 1)},
    "hole": lambda found: {"audio": found.audio._replace(holes=[(100, 200)])},
}
DOUBLED: dict[str, Callable[[Record], dict[str, Any]]] = {
    "fact": lambda found: {"facts": [*found.facts[:2], found.facts[1], *found.facts[2:]]},
    "List": lambda found: {"listed": [*found.listed, found.listed[-1]]},
    "feed": lambda found: {"feed": [found.feed[0], *found.feed]},
}
WRONG: dict[str, Callable[[Record], dict[str, Any]]] = {
    "order": lambda found: {"listed": found.listed[::-1]},
    "transcript": lambda found: {"document": {**(found.document or {}), "transcript": "other words"}},
    "state": lambda _: {"view": {b"state": b"ACTIVE"}},
    "seal": lambda found: {"audio": found.audio._replace(sealed=False)},
    "gap": lambda found: {"audio": found.audio._replace(gaps=["a gap"])},
}


def test_an_undisturbed_session_is_found_whole() -> None:
    """Nothing is said against a session of which everything is there once."""
    assert judged(*spoken()).clean


@pytest.mark.parametrize("what", LOST)
def test_a_loss_is_found(what: str) -> None:
    """SAFE-1: what is missing in any of the places counts as lost."""
    speaker, found = spoken()
    assert judged(speaker, found._replace(**LOST[what](found))).lost


@pytest.mark.parametrize("what", DOUBLED)
def test_a_double_is_found(what: str) -> None:
    """SAFE-1: what is there twice counts as doubled."""
    speaker, found = spoken()
    assert judged(speaker, found._replace(**DOUBLED[what](found))).doubled


@pytest.mark.parametrize("what", WRONG)
def test_what_is_otherwise_wrong_is_found(what: str) -> None:
    """Order, transcript, state and the log's own form are looked at as well."""
    speaker, found = spoken()
    assert judged(speaker, found._replace(**WRONG[what](found))).wrong


def test_a_client_that_wasnt_told_all_is_found() -> None:
    """A final that its client never heard counts as lost, however well it is stored."""
    speaker, found = spoken()
    speaker.finals.pop()
    assert judged(speaker, found).lost


async def test_a_final_told_twice_is_found() -> None:
    """A client that hears the same number again without a reset says so, and one that misses one."""
    speaker, _ = spoken()
    last = len(speaker.finals) - 1
    await speaker._take({"type": "final", "utterance": last})
    await speaker._take({"type": "final", "utterance": last + 2})
    assert ["final doubled" in fault or "final lost" in fault for fault in speaker.faults] == [True, True]


def test_only_power_loss_excuses_a_missing_end() -> None:
    """Audio whose end nobody had on disk may be missing once its client has gone, and is counted; else it is lost."""
    speaker, found = spoken()
    kept = speaker.length - 4_000
    facts = undisturbed(speaker.voice, SESSION, ENGINE, length=kept, reason="idle", holes=())
    cut = found._replace(
        audio=found.audio._replace(pcm=speaker.voice.samples[:kept].tobytes(), end_samples=kept), facts=facts
    )
    assert judged(speaker, cut).lost
    assert judged(speaker, cut, LOSS).lost, "its end was on disk long before"
    speaker.ended_s = 99.5
    findings = judged(speaker, cut, LOSS)
    assert not [one for one in findings.lost if "audio" in one]
    assert findings.taken_s == 0.25
