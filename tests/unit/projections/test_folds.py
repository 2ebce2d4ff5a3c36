"""The pure folds: however facts are cut into pulls, the read models are the same."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.events import Fact, HoleNoted
from eventlog.keys import SessionKeys
from eventlog.positions import SEALED, Position
from eventlog.readmodel.feed import decode_message
from projections.feeds import Feeds
from projections.lists import Lists
from projections.projection import Projection
from projections.sessions import Sessions
from projections.status import Status
from tests.integration.projections.facts import RATE_HZ, ended, final, keys_of, opened
from tests.integration.projections.model import Model

PROJECTIONS: list[Projection] = [Lists(), Feeds(), Sessions(session_ttl_s=1000), Status()]
KEYS = keys_of("a-session")

Facts = list[tuple[Position, Fact]]


@st.composite
def runs(draw: st.DrawFn) -> Facts:
    """The facts of a run: finals of any text, holes between them, ended or not yet."""
    facts = [opened(KEYS)]
    count = draw(st.integers(0, 12))
    for number in range(count):
        if draw(st.booleans()):
            start = number * 2 * RATE_HZ
            hole = HoleNoted(start_samples=start, end_samples=start + 100, sample_rate_hz=RATE_HZ)
            facts.append((facts[-1][0].control(), hole))
        facts.append(final(number, draw(st.text(min_size=1))))
    return [*facts, ended(count)] if draw(st.booleans()) else facts


@st.composite
def cut_runs(draw: st.DrawFn) -> tuple[Facts, list[Facts]]:
    """A run, and the same cut into pulls."""
    facts = draw(runs())
    cuts = sorted(draw(st.sets(st.integers(1, len(facts)), max_size=len(facts))) | {len(facts)})
    return facts, [facts[first:last] for first, last in zip([0, *cuts], cuts, strict=False)]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
@settings(suppress_health_check=[HealthCheck.too_slow])  # drawing is, on a busy machine
@given(run=cut_runs())
def test_pulls_of_any_size_lead_to_the_same_read_models(projection: Projection, run: tuple[Facts, list[Facts]]) -> None:
    """Any way to cut the facts into pulls leads to the same read models and messages."""
    facts, batches = run
    whole, pieces = Model(facts), Model(facts)
    whole.project(projection, KEYS, [facts])
    pieces.project(projection, KEYS, batches)
    assert pieces.keys == whole.keys
    assert pieces.messages == whole.messages
    assert pieces.announced == whole.announced
    assert pieces.ttl_s == whole.ttl_s


@given(run=cut_runs())
def test_the_document_is_the_finals_joined(run: tuple[Facts, list[Facts]]) -> None:
    """Stitching equals the finals joined in order, and exists exactly if the run has ended (STITCH-7)."""
    facts, batches = run
    model = Model(facts)
    model.project(PROJECTIONS[0], KEYS, batches)
    texts = [fact.text for _, fact in facts if hasattr(fact, "text")]
    assert [msgspec.json.decode(entry)["text"] for entry in model.keys.get(KEYS.list, [])] == texts
    assert (KEYS.document in model.keys) == (facts[-1][0] == SEALED)
    if KEYS.document in model.keys:
        document = msgspec.json.decode(model.keys[KEYS.document])
        assert document["transcript"] == " ".join(texts)
        assert document["language"] == "en"


@given(run=cut_runs())
def test_feed_messages_form_a_chain(run: tuple[Facts, list[Facts]]) -> None:
    """Each message names the event before it, the first the start, so that a listener sees every gap."""
    facts, batches = run
    model = Model(facts)
    model.project(PROJECTIONS[1], KEYS, batches)
    messages = [decode_message(message) for _, message in model.messages]
    assert [message.position for message in messages] == list(model.keys.get(KEYS.feed, {}))
    assert [message.previous for message in messages] == ["0-0", *(message.position for message in messages)][:-1]


def test_a_view_follows_the_session() -> None:
    """State, numbers and lists of a session follow its facts from CREATED over ACTIVE to CLOSED."""
    sessions, partition = PROJECTIONS[2], KEYS.partition
    facts = [opened(KEYS), final(0), ended(1)]
    states = []
    for count in range(1, 4):
        model = Model(facts)
        model.project(sessions, KEYS, [facts[:count]])
        view = model.keys[KEYS.view]
        lists = [bool(model.keys.get(key)) for key in (partition.open_runs, partition.ended_runs)]
        states.append((view["state"], view["finals"], view["audio_seconds"], *lists))
    assert states == [
        ("CREATED", 0, 0.0, True, False), ("ACTIVE", 1, 1.5, True, False), ("CLOSED", 1, 2.0, False, True),
    ]


def test_ended_runs_are_listed_for_the_ttl() -> None:
    """The list of ended runs drops those whose keys have expired."""
    model = Model([])
    for name, ended_ms in (("old", 1_000), ("new", 1_000_000), ("newest", 1_001_500)):
        keys = SessionKeys(name, KEYS.partition).run()
        model.project(PROJECTIONS[2], keys, [[ended(0, ended_ms=ended_ms)]])
    assert set(model.keys[KEYS.partition.ended_runs]) == {"new live", "newest live"}
