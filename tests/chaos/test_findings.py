"""The suite's own verdict: it finds what a stored session lacks, has twice or has otherwise wrong."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from eventlog.events import UtteranceFinal
from eventlog.positions import OPENED
from eventlog.readmodel.documents import encode_final, stitch
from projections.public_json import encode_event, to_listed_final
from tests.chaos.client import Ack, Client
from tests.chaos.client_audio import audio_of, undisturbed
from tests.chaos.findings import Findings, judge
from tests.chaos.plan import draw_scenario
from tests.chaos.redis_process import PowerLoss
from tests.chaos.stored_session import Audio, StoredSession

ENGINE = "chaos-mock"
SESSION = "0b9f6c1e-3f5a-4c0e-9d1b-6a52a7a7b001"
LOSS = PowerLoss(synced_s=99.0, at_s=100.0, lost_bytes=1)


def spoken() -> tuple[Client, StoredSession]:
    """A client that received everything, and its stored session."""
    client = Client(audio_of(next(draw_scenario(1, 0).sessions(0))), 0, random.Random(1))
    client.session_id, client.started_s, client.ended_s = SESSION, 0.0, 50.0
    client.acks.append(Ack(client.length, 40.0))
    facts = undisturbed(client.audio, SESSION, ENGINE, length=client.length, reason="stop", holes=())
    finals = [to_listed_final(fact) for _, fact in facts if isinstance(fact, UtteranceFinal)]
    client.finals = [{"utterance": final.utterance, "text": final.text} for final in finals]
    client.end = {"type": "session_end", "transcript": stitch(finals)}
    feed = [(at, body) for at, fact in facts if at != OPENED and (body := encode_event(fact)) is not None]
    return client, StoredSession(
        audio=Audio(client.audio.samples.tobytes(), client.length, [], sealed=True, gaps=[]), facts=facts,
        listed=[encode_final(final) for final in finals], feed=feed,
        document={"transcript": stitch(finals), "utterances": finals}, view={b"state": b"CLOSED"},
    )  # fmt: skip


def judged(client: Client, found: StoredSession, *losses: PowerLoss) -> Findings:
    """The verdict on one session."""
    findings = Findings()
    judge(findings, client, found, losses, ENGINE)
    return findings


def without_final(found: StoredSession) -> dict[str, Any]:
    """The session without the fact of one utterance."""
    final = next(number for number, (_, fact) in enumerate(found.facts) if isinstance(fact, UtteranceFinal))
    return {"facts": [*found.facts[:final], *found.facts[final + 1 :]]}


def changed_audio(found: StoredSession) -> dict[str, Any]:
    """The session with one byte of its audio changed."""
    return {"audio": found.audio._replace(pcm=found.audio.pcm[:-1] + b"\1")}


LOST: dict[str, Callable[[StoredSession], dict[str, Any]]] = {
    "fact": without_final,
    "List": lambda found: {"listed": found.listed[1:]},
    "feed": lambda found: {"feed": found.feed[:-1]},
    "document": lambda _: {"document": None},
    "audio": changed_audio,
    "end": lambda found: {"audio": found.audio._replace(end_samples=found.audio.end_samples - 1)},
    "hole": lambda found: {"audio": found.audio._replace(holes=[(100, 200)])},
}
DUPLICATED: dict[str, Callable[[StoredSession], dict[str, Any]]] = {
    "fact": lambda found: {"facts": [*found.facts[:2], found.facts[1], *found.facts[2:]]},
    "List": lambda found: {"listed": [*found.listed, found.listed[-1]]},
    "feed": lambda found: {"feed": [found.feed[0], *found.feed]},
}
WRONG: dict[str, Callable[[StoredSession], dict[str, Any]]] = {
    "order": lambda found: {"listed": found.listed[::-1]},
    "transcript": lambda found: {"document": {**(found.document or {}), "transcript": "other words"}},
    "state": lambda _: {"view": {b"state": b"ACTIVE"}},
    "seal": lambda found: {"audio": found.audio._replace(sealed=False)},
    "gap": lambda found: {"audio": found.audio._replace(gaps=["a gap"])},
}


def test_an_undisturbed_session_is_found_complete() -> None:
    """A session with everything stored once has no finding."""
    assert judged(*spoken()).is_clean


@pytest.mark.parametrize("what", LOST)
def test_a_loss_is_found(what: str) -> None:
    """SAFE-1: data missing in any store counts as lost."""
    client, found = spoken()
    assert judged(client, found._replace(**LOST[what](found))).lost


@pytest.mark.parametrize("what", DUPLICATED)
def test_a_duplicate_is_found(what: str) -> None:
    """SAFE-1: data stored twice counts as duplicated."""
    client, found = spoken()
    assert judged(client, found._replace(**DUPLICATED[what](found))).duplicated


@pytest.mark.parametrize("what", WRONG)
def test_other_errors_are_found(what: str) -> None:
    """A wrong order, transcript, state or log structure counts as wrong."""
    client, found = spoken()
    assert judged(client, found._replace(**WRONG[what](found))).wrong


def test_a_final_that_its_client_missed_is_found() -> None:
    """A stored final that its client never received counts as lost."""
    client, found = spoken()
    client.finals.pop()
    assert judged(client, found).lost


async def test_a_final_received_twice_is_found() -> None:
    """A client notes a final received twice without a reset, and a missing one."""
    client, _ = spoken()
    last = len(client.finals) - 1
    await client._receive({"type": "final", "utterance": last})
    await client._receive({"type": "final", "utterance": last + 2})
    assert [one.partition(":")[0] for one in client.violations] == ["final duplicated", "final lost"]


def test_only_power_loss_excuses_a_missing_end() -> None:
    """Unsynced audio may be missing if power loss followed its client's end, and is counted; otherwise it is lost."""
    client, found = spoken()
    retained = client.length - 4_000
    facts = undisturbed(client.audio, SESSION, ENGINE, length=retained, reason="idle", holes=())
    cut = found._replace(
        audio=found.audio._replace(pcm=client.audio.samples[:retained].tobytes(), end_samples=retained), facts=facts
    )
    assert judged(client, cut).lost
    assert judged(client, cut, LOSS).lost, "its end was on disk long before"
    client.ended_s = 99.5
    findings = judged(client, cut, LOSS)
    assert not [one for one in findings.lost if "audio" in one]
    assert findings.taken_s == 0.25
