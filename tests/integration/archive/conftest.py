"""Fixtures of the archive's tests."""

from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest

from eventlog.archive.location import ArchiveLocation, open_store
from eventlog.archive.stores import Store
from tests.integration.archive.live_archives import store_at
from tests.integration.eventbridge.conftest import _moto, credentials, emulator, no_credentials  # noqa: F401 - fixtures

BUCKET = "kept-for-years"


@pytest.fixture
def bucket(emulator: str) -> ArchiveLocation:  # noqa: F811 - the fixture of that name
    """An empty archive in S3."""
    boto3.client("s3", endpoint_url=emulator, region_name="us-east-1").create_bucket(Bucket=BUCKET)
    return ArchiveLocation(url=f"s3://{BUCKET}/an/archive", endpoint_url=emulator)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty archive of each kind."""
    if request.param == "s3":
        return open_store(request.getfixturevalue("bucket"))
    return store_at(tmp_path)
