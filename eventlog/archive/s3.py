"""An archive in an S3 bucket, or in anything that speaks S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from eventlog.archive.stores import ArchiveUnavailableError, MissingObjectError
from eventlog.aws import new_client, new_session

READ_TIMEOUT_S = 30.0
"""Between two bytes; an object is some megabytes, and callers try again."""

ATTEMPTS = 3
"""Throttling and lost connections pass within them; a caller that needs more waits longer itself."""

OBJECTS_PER_CALL = 1000
"""The most that DeleteObjects and ListObjectsV2 take."""

CONNECTIONS = 16
"""As many threads as read and write at once in one process."""

_ABSENT = frozenset({"NoSuchKey", "404"})


class S3Store:
    """The `Store` below one prefix of a bucket; credentials come from boto3's own chain."""

    def __init__(self, bucket: str, prefix: str, *, region: str, endpoint_url: str, encryption: str) -> None:
        """Use `bucket`; names begin with `prefix` and a slash if it isn't empty."""
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._region, self._endpoint_url = region, endpoint_url
        self._encryption = {} if encryption == "bucket" else {"ServerSideEncryption": encryption}
        self._lock = threading.Lock()
        self._client: Any = None

    def put(self, name: str, content: bytes) -> None:
        """See `Store.put`: S3 shows an object whole or not at all, and answers once it is stored."""
        self._call("put_object", Key=self._prefix + name, Body=content, **self._encryption)

    def get(self, name: str) -> bytes:
        """See `Store.get`."""
        content: bytes = self._call("get_object", Key=self._prefix + name)["Body"]
        return content

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
        self._call("delete_object", Key=self._prefix + name)

    def delete_folder(self, folder: str) -> int:
        """See `Store.delete_folder`; interrupted writes left nothing, since each is one request."""
        names = list(self.names(folder))
        for first in range(0, len(names), OBJECTS_PER_CALL):
            objects = [{"Key": self._prefix + name} for name in names[first : first + OBJECTS_PER_CALL]]
            answer = self._call("delete_objects", Delete={"Objects": objects, "Quiet": True})
            if answer.get("Errors"):
                raise ArchiveUnavailableError(f"S3: {answer['Errors'][0].get('Code', 'not deleted')}")
        return len(names)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _pages(self, folder: str, **options: str) -> Iterator[dict[str, Any]]:
        options["Prefix"] = f"{self._prefix}{folder}/"
        while True:
            page = self._call("list_objects_v2", MaxKeys=OBJECTS_PER_CALL, **options)
            yield page
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - boto3 ships no types
        """Return the answer of one operation on the bucket, its body read."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            answer: dict[str, Any] = getattr(self._connected(), operation)(Bucket=self._bucket, **request)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "refused"))
            if code in _ABSENT:
                raise MissingObjectError(code) from error
            raise ArchiveUnavailableError(f"S3: {code}") from error
        except BotoCoreError as error:  # its text may name hosts, buckets, and paths of credentials
            raise ArchiveUnavailableError(f"S3: {type(error).__name__}") from error
        return answer

    def _connected(self) -> Any:  # noqa: ANN401 - boto3 ships no types
        with self._lock:
            if self._client is None:
                self._client = new_client(
                    new_session(self._region), "s3", self._endpoint_url, attempts=ATTEMPTS,
                    read_timeout_s=READ_TIMEOUT_S, max_connections=CONNECTIONS,
                )  # fmt: skip
            return self._client
