"""Judges each session by the facts that an undisturbed run states of the same audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eventlog.events import Fact, HoleNoted, SessionEnded, UtteranceFinal
from eventlog.positions import OPENED, Position
from eventlog.readmodel.documents import encode_final, stitch
from projections.public_json import encode_event, to_listed_final
from tests.chaos.client import Client
from tests.chaos.client_audio import undisturbed
from tests.chaos.plan import RATE_HZ
from tests.chaos.redis_process import PowerLoss
from tests.chaos.stored_session import StoredSession, timeless, without_words

SLACK_S = 0.5
"""Between an event in Redis and its client's record of it."""


@dataclass
class Findings:
    """Findings over all sessions; each text of a list is an error and begins with the session's id."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    utterances: int = 0
    audio_s: float = 0.0
    taken_s: float = 0.0
    """Acked audio that power loss took before its sync, of clients that had left."""
    holes: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether no session has an error."""
        return not self.lost and not self.duplicated and not self.wrong


def judge(findings: Findings, client: Client, found: StoredSession, losses: Sequence[PowerLoss], engine: str) -> None:
    """Add the findings on one session."""
    blank = engine != "chaos-mock"
    length = client.length
    reason = "stop"
    if found.audio.end_samples < length and _may_lack_end(client, losses):
        length, reason = found.audio.end_samples, "idle"
        findings.taken_s += (client.length - length) / RATE_HZ
    elif _ended(found) == "idle" and _may_lack_end(client, losses):
        reason = "idle"  # power loss took only its end
    _judge_audio(findings, client, found, losses, length)
    is_wanted = undisturbed(
        client.audio, client.session_id, engine, length=length, reason=reason, holes=found.audio.holes
    )
    facts = [(at, timeless(fact, blank=blank)) for at, fact in found.facts]
    _judge_facts(findings, client, facts, [(at, timeless(fact, blank=blank)) for at, fact in is_wanted])
    _judge_read_models(findings, client, found)
    _judge_client(findings, client, found, is_complete=reason == "stop")
    findings.utterances += sum(isinstance(fact, UtteranceFinal) for _, fact in found.facts)
    findings.audio_s += length / RATE_HZ
    findings.holes += len(found.audio.holes)


def _may_lack_end(client: Client, losses: Sequence[PowerLoss]) -> bool:
    """Whether power loss took its end after its client had received it and left, so that no client repeats it."""
    return any(loss.synced_s - SLACK_S <= client.ended_s <= loss.at_s + SLACK_S for loss in losses)


def _ended(found: StoredSession) -> str:
    return next((fact.reason for _, fact in found.facts if isinstance(fact, SessionEnded)), "")


def _judge_audio(
    findings: Findings, client: Client, found: StoredSession, losses: Sequence[PowerLoss], length: int
) -> None:
    name, audio = client.session_id, found.audio
    lived = [loss for loss in losses if loss.at_s >= client.started_s]
    findings.wrong += [f"{name}: audio: {gap}" for gap in audio.gaps]
    findings.wrong += [f"{name}: {fault}" for fault in client.violations]
    if not audio.sealed:
        findings.wrong.append(f"{name}: the audio has no end")
    if client.offset_regressions and not lived:
        findings.wrong.append(f"{name}: resumed before an acked offset without power loss: {client.offset_regressions}")
    if audio.holes and not lived:
        findings.lost.append(f"{name}: holes without power loss: {audio.holes}")
    if audio.end_samples < length:
        findings.lost.append(f"{name}: audio ends at {audio.end_samples} of {length}, acked up to {client.acked}")
        return
    said = client.audio.samples[:length].copy()
    for start, end in audio.holes:
        said[start:end] = 0
    stored = np.frombuffer(audio.pcm, "<i2").reshape(-1, client.audio.channels)
    if not np.array_equal(stored, said):
        findings.lost.append(f"{name}: the audio in the log differs from the sent audio")


def _judge_facts(
    findings: Findings, client: Client, facts: list[tuple[Position, Fact]], is_wanted: list[tuple[Position, Fact]]
) -> None:
    name = client.session_id
    older = {at for at, fact in facts if isinstance(fact, UtteranceFinal) and not fact.decodes}
    is_wanted = [(at, without_words(fact) if at in older else fact) for at, fact in is_wanted]
    if facts == is_wanted:
        return
    stored, due = Counter(map(_utterance, _finals(facts))), Counter(map(_utterance, _finals(is_wanted)))
    missing, more = due - stored, stored - due
    findings.lost += [f"{name}: utterance at {key} is no fact" for key in missing]
    findings.duplicated += [f"{name}: utterance at {key} is a fact too many" for key in more]
    if not missing and not more:
        first = next(
            (pair for pair in zip(facts, is_wanted, strict=False) if pair[0] != pair[1]), (facts[-1:], is_wanted[-1:])
        )
        counts = f"{len(facts)} facts, {len(is_wanted)} is_wanted"
        findings.wrong.append(f"{name}: {counts}; {_shown(first[0])}, not {_shown(first[1])}")


def _judge_read_models(findings: Findings, client: Client, found: StoredSession) -> None:
    name, finals = client.session_id, _finals(found.facts)
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


def _compare(findings: Findings, what: str, is_wanted: Sequence[object], found: Sequence[object]) -> None:
    """Compare two sequences that must be equal."""
    if list(is_wanted) == list(found):
        return
    due, there = Counter(is_wanted), Counter(found)
    findings.lost += [f"{what} lacks {count} entries"] if (count := (due - there).total()) else []
    findings.duplicated += [f"{what} has {count} entries too many"] if (count := (there - due).total()) else []
    if due == there:
        findings.wrong.append(f"{what} is out of order")


def _judge_client(findings: Findings, client: Client, found: StoredSession, *, is_complete: bool) -> None:
    name, finals = client.session_id, [to_listed_final(final) for final in _finals(found.facts)]
    received = [(one["utterance"], one["text"]) for one in client.finals]
    facts = [(one.utterance, one.text) for one in finals]
    by_socket = client.end is not None and client.end["type"] == "session_end"
    # The client may have received finals that power loss took afterwards.
    if is_complete and received != facts[: len(received)]:
        findings.wrong.append(f"{name}: its client received other finals than the facts")
    if is_complete and by_socket and len(received) < len(facts):
        findings.lost.append(f"{name}: its client received {len(received)} of {len(facts)} finals before the end")
    if is_complete and client.end is not None and client.end["transcript"] != stitch(finals):
        findings.wrong.append(f"{name}: its client received another transcript")
    noted = [fact for _, fact in found.facts if isinstance(fact, HoleNoted)]
    if len(noted) != len(found.audio.holes):
        findings.lost.append(f"{name}: {len(found.audio.holes)} holes in the log, {len(noted)} among the facts")


def _finals(facts: Sequence[tuple[Position, Fact]]) -> list[UtteranceFinal]:
    return [fact for _, fact in facts if isinstance(fact, UtteranceFinal)]


def _utterance(final: UtteranceFinal) -> tuple[int, int, int, str]:
    return (final.channel, final.start_samples, final.end_samples, final.text)


def _shown(fact: object) -> str:
    """A fact for a report; its text is printed on purpose: it is the bundled speech in mock words."""
    return repr(fact)[:300]
