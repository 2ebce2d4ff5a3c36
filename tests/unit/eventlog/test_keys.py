import inspect
import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from eventlog import keys as keys_module
from eventlog.keys import LIVE_RUN, READ_MODELS, SINKS, Keys, PartitionKeys, QueueKeys, RunKeys, SessionKeys, UploadKeys

KEYS = Keys(64)
# Where all sessions are neighbours.
KEYS_OF_ONE = Keys(1)
TYPES = re.compile(r"(String|Hash|List|Stream|Sorted set|Set|Sharded channel|Channel)[,:]")
# Methods about keys, and another form of one.
NO_KEYS = {"run", "rebuilt", "expiring", "audio_name", "upload", "queue"}

# Anything but what separates the parts of a key and of a run's name; braces as well, which make hash tags.
ids = st.text(st.characters(codec="utf-8", exclude_characters=" :"), min_size=1, max_size=60)
runs = st.one_of(st.just(LIVE_RUN), ids)


def members(kind: type) -> Iterator[str]:
    """The names of the keys that a class makes."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and name not in NO_KEYS and (callable(member) or hasattr(member, "__get__")):
            yield name


def texts(holder: object) -> dict[str, str]:
    """Every key that an object makes, by name."""
    found = {}
    for name in members(type(holder)):
        key = getattr(holder, name)
        found[name] = key("lists") if callable(key) else key
    if isinstance(holder, SessionKeys):
        found |= {f"upload {name}": getattr(holder.upload, name) for name in members(UploadKeys)}
    return found


@given(ids, runs)
def test_all_keys_of_a_partition_are_in_one_slot(session_id: str, run: str) -> None:
    """With any ids, every key of a session, its runs and its partition has the slot of the partition's tag."""
    session = KEYS.of(session_id)
    partition = session.partition
    made = [
        *texts(session).values(), *texts(session.run(run)).values(), *texts(partition).values(),
        *texts(partition.queue("mock:{a}")).values(),
    ]
    assert {key_slot(key.encode()) for key in made} == {key_slot(partition.tag.encode())}


@given(ids, ids, runs, runs)
def test_different_runs_have_different_keys(one: str, other: str, run: str, other_run: str) -> None:
    """Two sessions share no key, with any runs, and two runs of a session share none of a run's own."""
    if one != other:
        mine, others = (
            {*texts(KEYS_OF_ONE.of(name)).values(), *texts(KEYS_OF_ONE.of(name).run(run)).values()}
            for name, run in ((one, run), (other, other_run))
        )
        assert not mine & others
    if run != other_run:
        assert not set(texts(KEYS.of(one).run(run)).values()) & set(texts(KEYS.of(one).run(other_run)).values())


@given(ids, runs)
def test_a_run_is_found_by_its_name(session_id: str, run: str) -> None:
    """The name of a run in `entries`, `index` and `changes` leads to the keys that it came from."""
    keys = KEYS.of(session_id).run(run)
    found = KEYS.of_run(keys.member)
    assert (found.session_id, found.run, texts(found)) == (session_id, run, texts(keys))


def test_the_live_run_owns_the_documented_keys() -> None:
    """The list, document and view of the live run are the session's own, those of a replay are not (STITCH-3)."""
    session = KEYS.of("s1")
    live, replay = session.run(), session.run("again")
    assert (live.list, live.document, live.view) == (session.list, session.document, session.view)
    assert not {replay.list, replay.document, replay.view} & {session.list, session.document, session.view}


@given(ids)
def test_the_audio_key_is_the_same_as_bytes(session_id: str) -> None:
    """The name that Redis answers a read with is the audio key."""
    keys = KEYS.of(session_id)
    assert keys.audio_name == keys.audio.encode()


def test_every_key_of_a_session_is_meant_to_expire() -> None:
    """The keys that get the session TTL are all that a session, its live run and its read models have (STITCH-7)."""
    session = KEYS.of("s1")
    run = session.run()
    made = set(texts(session).values()) | set(texts(run).values()) | {
        run.projected(name) for name in (*READ_MODELS, *SINKS)
    }
    assert set(run.expiring()) == made


def test_every_key_is_documented() -> None:
    """The docstring of each key begins with its Redis type, and gives its content."""
    documented = {
        f"{kind.__name__}.{name}": inspect.getdoc(inspect.getattr_static(kind, name))
        for kind in (PartitionKeys, QueueKeys, SessionKeys, UploadKeys, RunKeys)
        for name in members(kind)
    }
    documented |= {name: inspect.getdoc(getattr(keys_module, name))
                   for name in ("partition_count", "reservations", "heartbeats", "tenant_reservations", "request_count",
                                "ticket", "status_channel")}
    assert len(documented) > 20
    assert [name for name, text in documented.items() if not TYPES.match(text or "")] == []


def test_the_public_keys_never_change() -> None:
    """A subscriber may build the documented keys by itself: tag in braces, kind, session id (STITCH-3, OPS-1)."""
    session = KEYS.of("7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a")
    tag = session.partition.tag
    assert session.list == f"{{{tag}}}:list:7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
    assert session.document == f"{{{tag}}}:document:7d9f2b0c-6f3e-4c52-9a55-3b1f0d1c2e4a"
