import os
import stat
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest

from eventlog.archive import s3
from eventlog.archive.directory import DirectoryStore
from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError, Store
from tests.integration.archive.conftest import BUCKET
from tests.integration.archive.live_archives import at, store_at


def test_a_stored_object_is_read_back(store: Store) -> None:
    """An object has the content that was last put under its name, also none, and any bytes."""
    content = bytes(range(256)) * 1000
    store.put("sessions/00/a/one", content)
    store.put("sessions/00/a/two", b"first")
    store.put("sessions/00/a/two", b"")
    assert store.get("sessions/00/a/one") == content
    assert store.get("sessions/00/a/two") == b""
    store.close()


def test_an_absent_object_is_missing(store: Store) -> None:
    """An object that was never put, or was deleted, is missing; deleting it once more is harmless."""
    for _ in range(2):
        with pytest.raises(MissingObjectError):
            store.get("sessions/00/a/one")
        store.put("sessions/00/a/one", b"1")
        store.delete("sessions/00/a/one")
        store.delete("sessions/00/a/one")
    with pytest.raises(MissingObjectError):
        store.get("sessions/00/a/one/below")
    assert list(store.names("sessions")) == []


def test_names_and_folders_are_listed(store: Store) -> None:
    """The objects below a folder are listed with their whole names, and so are the folders right below it."""
    names = ["index/date=1/tenant=a/1", "index/date=1/tenant=a%2Fb/2", "index/date=2/tenant=a/1", "index-not/x"]
    for name in reversed(names):
        store.put(name, b"")
    assert sorted(store.names("index")) == sorted(names[:3])
    assert list(store.names("index/date=1/tenant=a")) == names[:1]
    assert sorted(store.folders("index")) == ["index/date=1", "index/date=2"]
    assert list(store.folders("nowhere")) == list(store.names("nowhere")) == []


def test_a_folder_is_deleted_completely(store: Store) -> None:
    """Deleting a folder takes all below it and nothing beside it, and returns how many objects that was."""
    for number in range(3):
        store.put(f"sessions/00/a/{number}", b"1")
    store.put("sessions/00/ab/0", b"1")
    assert store.delete_folder("sessions/00/a") == 3
    assert store.delete_folder("sessions/00/a") == 0
    assert list(store.names("sessions")) == ["sessions/00/ab/0"]


def test_an_unfinished_write_is_no_object(tmp_path: Path) -> None:
    """A file that was half written is no object, and goes with its folder."""
    store = store_at(tmp_path)
    store.put("sessions/00/a/one", b"1")
    folder = tmp_path / "archive" / "sessions" / "00" / "a"
    (folder / ".unfinished-x").write_bytes(b"half")
    assert list(store.names("sessions")) == ["sessions/00/a/one"]
    assert store.delete_folder("sessions/00/a") == 2
    assert not folder.exists()


def test_a_failed_write_keeps_the_older_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that can't be made durable leaves the object unchanged, and no other file."""
    store = store_at(tmp_path)
    store.put("sessions/one", b"before")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveUnavailableError, match="No space left on device"):
        store.put("sessions/one", b"after")
    assert store.get("sessions/one") == b"before"
    assert os.listdir(tmp_path / "archive" / "sessions") == ["one"]  # noqa: PTH208 - names alone


def test_only_the_owner_may_read_a_directory(tmp_path: Path) -> None:
    """SAFE-4: speech is readable only by the user that the archive runs as."""
    store_at(tmp_path).put("sessions/00/one", b"1")
    root = tmp_path / "archive"
    modes = [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (root, root / "sessions", root / "sessions/00/one")]
    assert modes == [0, 0, 0]


@pytest.mark.parametrize("name", ["../outside", "sessions/../../outside", "/etc/passwd", "sessions//one", ".", ""])
def test_no_name_leads_out_of_a_directory(tmp_path: Path, name: str) -> None:
    """SAFE-4: a name with empty parts or dots for parts is refused."""
    store = DirectoryStore(str(tmp_path / "archive"))
    for act in (lambda: store.put(name, b""), lambda: store.get(name), lambda: store.delete_folder(name)):
        with pytest.raises(ValueError, match="not a name of an object"):
            act()


def test_a_place_that_cannot_be_used_is_unavailable(tmp_path: Path, bucket: ArchiveLocation) -> None:
    """A file in place of the directory, or a missing bucket, is an unavailable store with a one-word cause."""
    (tmp_path / "archive").write_bytes(b"")
    missing = ArchiveLocation(url="s3://nobodys-bucket", endpoint_url=bucket.endpoint_url)
    stores = [store_at(tmp_path), open_store(missing)]
    for store, word in zip(stores, ["Not a directory|File exists", "NoSuchBucket"], strict=True):
        with pytest.raises(ArchiveUnavailableError, match=word):
            store.put("sessions/one", b"1")
    with pytest.raises(ArchiveUnavailableError, match="NoSuchBucket"):
        stores[1].get("sessions/one")


def test_objects_in_s3_are_encrypted(bucket: ArchiveLocation) -> None:
    """SAFE-4: each object in S3 asks for encryption at rest, unless the bucket's own rule is to decide."""
    store = open_store(bucket)
    store.put("sessions/one", b"1")
    client = boto3.client("s3", endpoint_url=bucket.endpoint_url, region_name="us-east-1")
    head = client.head_object(Bucket=BUCKET, Key="an/archive/sessions/one")
    assert head["ServerSideEncryption"] == "AES256"


def test_many_objects_are_listed_and_deleted(bucket: ArchiveLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists and deletions continue over all pages."""
    monkeypatch.setattr(s3, "OBJECTS_PER_CALL", 3)
    store = open_store(bucket)
    for number in range(8):
        store.put(f"sessions/{number}", b"")
    assert sorted(store.names("sessions")) == [f"sessions/{number}" for number in range(8)]
    assert store.delete_folder("sessions") == 8
    assert list(store.names("sessions")) == []


@pytest.mark.parametrize("url", ["", "gs://bucket", "s3://", "file://host/path", "file://"])
def test_other_addresses_are_refused(url: str) -> None:
    """An address of an unknown kind is refused."""
    with pytest.raises(ValueError, match="neither s3"):
        open_store(ArchiveLocation(url=url))


def test_a_directory_may_be_named_as_an_address(tmp_path: Path) -> None:
    """A path and its file:// address are the same place."""
    store_at(tmp_path).put("sessions/one", b"1")
    assert open_store(ArchiveLocation(url=(Path(at(tmp_path).url)).as_uri())).get("sessions/one") == b"1"
