"""Judges each session by what an undisturbed run would have made of the same audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eventlog.events import Fact, HoleNoted, SessionEnded, UtteranceFinal
from eventlog.positions import OPENED, Position
from eventlog.readmodel.documents import encode_final, stitch
from projections.public_json import encode_event, to_listed_final
from tests.chaos.plan import RATE_HZ
from tests.chaos.records import Record, timeless
from tests.chaos.speaker import Speaker
from tests.chaos.store import PowerLoss
from tests.chaos.voices import undisturbed

SLACK_S = 0.5
"""Between something happening in Redis and its client's clock noting it."""


@dataclass
class Findings:
    """What was found, over all sessions; what is in a list is wrong, and begins with the session's id."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    utterances: int = 0
    audio_s: float = 0.0
    taken_s: float = 0.0
    """Audio that power loss took for good, of clients that had gone: acked, synced by nobody, and theirs alone."""
    holes: int = 0

    @property
    def clean(self) -> bool:
        """Whether there is nothing to complain of."""
        return not self.lost and not self.doubled and not self.wrong


def judge(findings: Findings, speaker: Speaker, found: Record, losses: Sequence[PowerLoss], engine: str) -> None:
    """Add what is to be said of one session."""
    blank = engine != "chaos-mock"
    length = speaker.length
    reason = "stop"
    if found.audio.end_samples < length and _may_be_cut(speaker, losses):
        length, reason = found.audio.end_samples, "idle"
        findings.taken_s += (speaker.length - length) / RATE_HZ
    elif _ended(found) == "idle" and _may_be_cut(speaker, losses):
        reason = "idle"  # its last words are there, and only its end was taken
    _judge_audio(findings, speaker, found, losses, length)
    wanted = undisturbed(
        speaker.voice, speaker.session_id, engine, length=length, reason=reason, holes=found.audio.holes
    )
    facts = [(at, timeless(fact, blank=blank)) for at, fact in found.facts]
    _judge_facts(findings, speaker, facts, [(at, timeless(fact, blank=blank)) for at, fact in wanted])
    _judge_read_models(findings, speaker, found)
    _judge_told(findings, speaker, found, whole=reason == "stop")
    findings.utterances += sum(isinstance(fact, UtteranceFinal) for _, fact in found.facts)
    findings.audio_s += length / RATE_HZ
    findings.holes += len(found.audio.holes)


def _may_be_cut(speaker: Speaker, losses: Sequence[PowerLoss]) -> bool:
    """Whether power took its end after its client had been told and had gone: nobody was there to say it again."""
    return any(loss.synced_s - SLACK_S <= speaker.ended_s <= loss.at_s + SLACK_S for loss in losses)


def _ended(found: Record) -> str:
    return next((fact.reason for _, fact in found.facts if isinstance(fact, SessionEnded)), "")


def _judge_audio(
    findings: Findings, speaker: Speaker, found: Record, losses: Sequence[PowerLoss], length: int
) -> None:
    name, audio = speaker.session_id, found.audio
    lived = [loss for loss in losses if loss.at_s >= speaker.begun_s]
    findings.wrong += [f"{name}: audio: {gap}" for gap in audio.gaps]
    findings.wrong += [f"{name}: {fault}" for fault in speaker.faults]
    if not audio.sealed:
        findings.wrong.append(f"{name}: the audio has no end")
    if speaker.went_back and not lived:
        findings.wrong.append(f"{name}: resumed before what was acked without power loss: {speaker.went_back}")
    if audio.holes and not lived:
        findings.lost.append(f"{name}: holes without power loss: {audio.holes}")
    if audio.end_samples < length:
        findings.lost.append(f"{name}: audio ends at {audio.end_samples} of {length}, acked up to {speaker.acked}")
        return
    said = speaker.voice.samples[:length].copy()
    for start, end in audio.holes:
        said[start:end] = 0
    stored = np.frombuffer(audio.pcm, "<i2").reshape(-1, speaker.voice.channels)
    if not np.array_equal(stored, said):
        findings.lost.append(f"{name}: the audio in the log is not what was sent")


def _judge_facts(
    findings: Findings, speaker: Speaker, facts: list[tuple[Position, Fact]], wanted: list[tuple[Position, Fact]]
) -> None:
    name = speaker.session_id
    if facts == wanted:
        return
    stored, due = Counter(map(_utterance, _finals(facts))), Counter(map(_utterance, _finals(wanted)))
    missing, more = due - stored, stored - due
    findings.lost += [f"{name}: utterance at {key} is no fact" for key in missing]
    findings.doubled += [f"{name}: utterance at {key} is a fact too many" for key in more]
    if not missing and not more:
        first = next(
            (pair for pair in zip(facts, wanted, strict=False) if pair[0] != pair[1]), (facts[-1:], wanted[-1:])
        )
        counts = f"{len(facts)} facts, {len(wanted)} wanted"
        findings.wrong.append(f"{name}: {counts}; {_told(first[0])}, not {_told(first[1])}")


def _judge_read_models(findings: Findings, speaker: Speaker, found: Record) -> None:
    name, finals = speaker.session_id, _finals(found.facts)
    entries = [encode_final(to_listed_final(final)) for final in finals]
    _compare(findings, f"{name}: the List", entries, found.listed)
    bodies = [(at, encode_event(fact)) for at, fact in found.facts if at != OPENED]
    _compare(findings, f"{name}: the feed", [one for one in bodies if one[1] is not None], found.feed)
    transcript = stitch([to_listed_final(final) for final in finals])
    if found.document is None:
        findings.lost.append(f"{name}: no stitched transcript")
    elif found.document["transcript"] != transcript or len(found.document["utterances"]) != len(finals):
        findings.wrong.append(f"{name}: the stitched transcript is not that of its facts")
    if found.view.get(b"state") != b"CLOSED":
        findings.wrong.append(f"{name}: listed as {found.view.get(b'state')!r} after its end")


def _compare(findings: Findings, what: str, wanted: Sequence[object], found: Sequence[object]) -> None:
    """Two sequences that must be one."""
    if list(wanted) == list(found):
        return
    due, there = Counter(wanted), Counter(found)
    findings.lost += [f"{what} lacks {count} entries"] if (count := (due - there).total()) else []
    findings.doubled += [f"{what} has {count} entries too many"] if (count := (there - due).total()) else []
    if due == there:
        findings.wrong.append(f"{what} is out of order")


def _judge_told(findings: Findings, speaker: Speaker, found: Record, *, whole: bool) -> None:
    name, finals = speaker.session_id, [to_listed_final(final) for final in _finals(found.facts)]
    told = [(one["utterance"], one["text"]) for one in speaker.finals]
    facts = [(one.utterance, one.text) for one in finals]
    by_socket = speaker.end is not None and speaker.end["type"] == "session_end"
    # What was told before power loss took it may be more than there is now.
    if whole and told != facts[: len(told)]:
        findings.wrong.append(f"{name}: its client was told other finals than there are")
    if whole and by_socket and len(told) < len(facts):
        findings.lost.append(f"{name}: its client was told {len(told)} of {len(facts)} finals before the end")
    if whole and speaker.end is not None and speaker.end["transcript"] != stitch(finals):
        findings.wrong.append(f"{name}: its client was told another transcript")
    noted = [fact for _, fact in found.facts if isinstance(fact, HoleNoted)]
    if len(noted) != len(found.audio.holes):
        findings.lost.append(f"{name}: {len(found.audio.holes)} holes in the log, {len(noted)} among the facts")


def _finals(facts: Sequence[tuple[Position, Fact]]) -> list[UtteranceFinal]:
    return [fact for _, fact in facts if isinstance(fact, UtteranceFinal)]


def _utterance(final: UtteranceFinal) -> tuple[int, int, int, str]:
    return (final.channel, final.start_samples, final.end_samples, final.text)


def _told(fact: object) -> str:
    """A fact for a report; what was recorded is read out on purpose: it is the bundled speech, in mock words."""
    return repr(fact)[:300]
