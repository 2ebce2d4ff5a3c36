"""An archive's location: an address that names a directory or an S3 bucket, and the store at it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from eventlog.archive.directory import DirectoryStore
from eventlog.archive.s3 import S3Store
from eventlog.archive.stores import Store

Encryption = Literal["AES256", "aws:kms", "bucket"]


class ArchiveLocation(msgspec.Struct, frozen=True, kw_only=True):
    """Where an archive is.

    Attributes:
        url: ``s3://bucket/prefix``, ``file:///directory``, or the path of a directory.
        region: AWS region of the bucket.
        endpoint_url: Address of an emulator, or of a store that speaks S3; empty for the one that boto3 finds.
        encryption: How S3 encrypts the objects, asked for with each; ``bucket``: by the bucket's own default.
    """

    url: str
    region: str = "us-east-1"
    endpoint_url: str = ""
    encryption: Encryption = "AES256"


def open_store(location: ArchiveLocation) -> Store:
    """Return the store at a location, without a call to it yet.

    Raises:
        ValueError: if the address is of no known kind.
    """
    parts = urlsplit(location.url)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(
            parts.netloc, parts.path.strip("/"), region=location.region, endpoint_url=location.endpoint_url,
            encryption=location.encryption,
        )  # fmt: skip
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return DirectoryStore(unquote(parts.path))
    if location.url and not parts.scheme:
        return DirectoryStore(location.url)
    raise ValueError("neither s3://bucket/prefix, nor file:///directory, nor the path of a directory")
