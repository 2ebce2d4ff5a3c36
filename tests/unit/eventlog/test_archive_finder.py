import msgspec

from eventlog.archive import layout
from eventlog.archive.finder import ArchiveQuery, find
from tests.support.archives import MemoryStore, archive
from tests.support.pcm import Story, talk

DAY_MS = 86_400_000
NOON_MS = 1_763_812_800_000
STORY = Story(talk()[:1_000])


def filled() -> MemoryStore:
    """Two tenants' sessions of three days."""
    store = MemoryStore()
    for day in range(3):
        for tenant_id in ("acme", "other/acme"):
            start = msgspec.structs.replace(
                STORY.start, session_id=f"{tenant_id[0]}{day}", tenant_id=tenant_id, started_ms=NOON_MS + day * DAY_MS
            )
            archive(store, STORY, start=start)
    store.got.clear()
    return store


def ids(store: MemoryStore, wanted: ArchiveQuery) -> list[str]:
    """The ids of the sessions found."""
    return [one.session_id for one in find(store, wanted)]


def test_a_session_is_found_by_its_id_alone() -> None:
    """REPLAY-1: looking a session up reads its own manifest and nothing else; a missing one is skipped."""
    store = filled()
    assert ids(store, ArchiveQuery(session_ids=("o1", "nobody", "a2", "o1"))) == ["o1", "a2"]
    assert store.got == [f"{layout.folder(one)}/{layout.MANIFEST}" for one in ("o1", "nobody", "a2")]


def test_sessions_are_found_by_tenant_and_time() -> None:
    """REPLAY-1: bounds may be given together, and only the manifests of sessions within them are read."""
    store = filled()
    assert sorted(ids(store, ArchiveQuery())) == ["a0", "a1", "a2", "o0", "o1", "o2"]
    assert ids(store, ArchiveQuery(tenant_id="acme")) == ["a0", "a1", "a2"]
    assert ids(store, ArchiveQuery(tenant_id="other/acme", since_ms=NOON_MS + DAY_MS)) == ["o1", "o2"]
    assert ids(store, ArchiveQuery(tenant_id="nobody")) == []
    store.got.clear()
    assert ids(store, ArchiveQuery(tenant_id="acme", since_ms=NOON_MS, until_ms=NOON_MS + DAY_MS)) == ["a0"]
    assert ids(store, ArchiveQuery(tenant_id="acme", since_ms=NOON_MS + 1, until_ms=NOON_MS + DAY_MS + 1)) == ["a1"]
    assert store.got == [f"{layout.folder(one)}/{layout.MANIFEST}" for one in ("a0", "a1")]


def test_an_incomplete_session_is_not_found() -> None:
    """A marker without a manifest is of a session that is being archived; a damaged manifest is reported."""
    store = filled()
    del store.objects[f"{layout.folder('a0')}/{layout.MANIFEST}"]
    store.objects[f"{layout.folder('a1')}/{layout.MANIFEST}"] = b"{}"
    found = list(find(store, ArchiveQuery(tenant_id="acme")))
    assert [(one.session_id, one.manifest is None, bool(one.error)) for one in found] == [
        ("a1", True, True), ("a2", False, False),
    ]  # fmt: skip
