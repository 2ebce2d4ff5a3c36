"""An archive in an S3 bucket, or in anything that speaks S3."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError, Place

CONNECT_S = 5.0
"""Longer than a TCP retransmission or two."""

READ_S = 30.0
"""Between two bytes; an object is some megabytes, and whoever asks tries again."""

ATTEMPTS = 3
"""Throttling and lost connections pass within them; longer troubles are the caller's, who waits longer."""

OBJECTS_PER_CALL = 1000
"""What DeleteObjects and ListObjectsV2 take at most."""

CONNECTIONS = 16
"""As many threads as read and write at once in one process."""

_ABSENT = frozenset({"NoSuchKey", "404"})
# What botocore logs at debug level are whole requests: bodies, signatures, tokens.
_TALKATIVE = ("boto3", "botocore", "urllib3", "s3transfer")

T = TypeVar("T")


class S3Store:
    """The `Store` below one prefix of a bucket; credentials are found as boto3 finds them."""

    def __init__(self, place: Place, bucket: str, prefix: str) -> None:
        """Use `bucket`; names begin with `prefix` and a slash if there is one."""
        self._place = place
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._encryption = {} if place.encryption == "bucket" else {"ServerSideEncryption": place.encryption}
        self._lock = threading.Lock()
        self._made: Any = None

    def put(self, name: str, content: bytes) -> None:
        """See `Store.put`: S3 shows an object whole or not at all, and answers once it is stored."""
        self._asked(lambda client: client.put_object(
            Bucket=self._bucket, Key=self._prefix + name, Body=content, **self._encryption
        ))  # fmt: skip

    def get(self, name: str) -> bytes:
        """See `Store.get`."""

        def read(client: Any) -> bytes:  # noqa: ANN401 - boto3 ships no types
            content: bytes = client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            return content

        return self._asked(read)

    def names(self, folder: str) -> Iterator[str]:
        """See `Store.names`."""
        for page in self._pages(folder):
            for found in page.get("Contents", ()):
                yield found["Key"].removeprefix(self._prefix)

    def folders(self, folder: str) -> Iterator[str]:
        """See `Store.folders`."""
        for page in self._pages(folder, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"].removeprefix(self._prefix).rstrip("/")

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        self._asked(lambda client: client.delete_object(Bucket=self._bucket, Key=self._prefix + name))

    def delete_folder(self, folder: str) -> int:
        """See `Store.delete_folder`; writes of parts that were broken off left nothing, since each is one request."""
        names = list(self.names(folder))
        for first in range(0, len(names), OBJECTS_PER_CALL):
            objects = [{"Key": self._prefix + name} for name in names[first : first + OBJECTS_PER_CALL]]
            asked = {"Bucket": self._bucket, "Delete": {"Objects": objects, "Quiet": True}}
            answer = self._asked(partial(_delete, asked))
            if answer.get("Errors"):
                raise ArchiveUnavailableError(f"S3: {answer['Errors'][0].get('Code', 'not deleted')}")
        return len(names)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._made is not None:
                self._made.close()
            self._made = None

    def _pages(self, folder: str, **how: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        where = {"Bucket": self._bucket, "Prefix": f"{self._prefix}{folder}/", **how}
        while True:
            page = self._asked(partial(_list, {**where, "MaxKeys": OBJECTS_PER_CALL, **token}))
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _asked(self, call: Callable[[Any], T]) -> T:
        """What a call answers."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            return call(self._client())
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "refused"))
            if code in _ABSENT:
                raise MissingObjectError(code) from error
            raise ArchiveUnavailableError(f"S3: {code}") from error
        except BotoCoreError as error:  # its text may name hosts, buckets, and paths of credentials
            raise ArchiveUnavailableError(f"S3: {type(error).__name__}") from error

    def _client(self) -> Any:  # noqa: ANN401 - boto3 ships no types
        with self._lock:
            if self._made is None:
                for name in _TALKATIVE:
                    logging.getLogger(name).setLevel(logging.WARNING)
                import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy
                from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415

                self._made = boto3.session.Session(region_name=self._place.region).client(
                    "s3", endpoint_url=self._place.endpoint_url or None,
                    config=Config(
                        connect_timeout=CONNECT_S, read_timeout=READ_S, max_pool_connections=CONNECTIONS,
                        tcp_keepalive=True, retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                    ),
                )  # fmt: skip
            return self._made


def _delete(asked: dict[str, Any], client: Any) -> dict[str, Any]:  # noqa: ANN401 - boto3 ships no types
    answer: dict[str, Any] = client.delete_objects(**asked)
    return answer


def _list(asked: dict[str, Any], client: Any) -> dict[str, Any]:  # noqa: ANN401 - as the other
    answer: dict[str, Any] = client.list_objects_v2(**asked)
    return answer
