import asyncio

import pytest

from stenolog import wiring
from stenolog.roles.projector import serve_projections
from stenolog.settings import SettingsError, load


@pytest.mark.parametrize(("environ", "named"), [
    ({"AUDIO_RETENTION": "archived"}, "STENOLOG_ARCHIVE_URL"),
    ({"PROJECTIONS": "archive", "AUDIO_RETENTION": "processed", "ARCHIVE_URL": "/a"}, "STENOLOG_AUDIO_RETENTION: "),
    ({"PROJECTIONS": "archive", "AUDIO_RETENTION_S": "599", "ARCHIVE_URL": "/a"}, "STENOLOG_AUDIO_RETENTION_S: 599"),
])  # fmt: skip
def test_settings_that_would_lose_audio_are_refused(environ: dict[str, str], named: str) -> None:
    """Settings that would free audio before it is archived, or never, are an error that names the change."""
    with pytest.raises(SettingsError) as caught:
        load({f"STENOLOG_{name}": value for name, value in environ.items()}, None)
    [problem] = caught.value.problems
    assert problem.startswith(named)


@pytest.mark.parametrize("url", ["http://bucket", "s3://", "s3://Bucket/x", "gs://bucket/x", "file://"])
def test_other_addresses_are_refused(url: str) -> None:
    """An address of an unknown kind is refused with the allowed kinds."""
    with pytest.raises(SettingsError, match=r"a path, file:///path or s3://bucket/prefix"):
        load({"STENOLOG_ARCHIVE_URL": url}, None)


def test_workers_get_the_retention() -> None:
    """A worker keeps audio for the time that is set with `time` alone, and for the archive with `archived` alone."""
    retentions = {}
    for policy in ("time", "processed", "archived"):
        settings = load({"STENOLOG_AUDIO_RETENTION": policy, "STENOLOG_ARCHIVE_URL": "s3://bucket/x"}, None)
        found = wiring.worker_settings(settings)
        assert found.archive is not None
        assert found.archive.url == "s3://bucket/x"
        retentions[policy] = found.audio_retention_s, found.keeps_unarchived
    assert retentions == {"time": (600, False), "processed": (0, False), "archived": (0, True)}
    assert wiring.worker_settings(load({}, None)).archive is None


async def test_the_projection_needs_a_place(redis_url: str) -> None:
    """`stenolog projector archive` without an address ends with an error that names the setting."""
    settings = load({"REDIS_URL": redis_url}, None, projections=("archive",))
    with pytest.raises(SettingsError, match="STENOLOG_ARCHIVE_URL"):
        await serve_projections(settings, asyncio.Event())
