"""Clients for the commands, and AWS's errors in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventlog.aws import new_client, new_session, resolve_endpoint
from projections.eventbridge.client import MOST_CALLS, READ_S
from projections.eventbridge.responses import read_failure
from stenolog.errors import UserError

ATTEMPTS = 3
"""Of each call, by the SDK; a person waits, and a throttled call or a lost packet is no reason to start again."""

_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation")
_STALE = (
    "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
    "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidAccessKeyId",
)  # fmt: skip


class AwsError(UserError):
    """AWS refused a call, or couldn't be reached."""


class Access:
    """Clients of one region and address, by boto3's own chain of credentials."""

    def __init__(self, *, region: str, endpoint_url: str, overrule: bool = False) -> None:
        """`overrule`: that address comes from the command line, so it wins over the one that boto3 finds.

        Raises:
            AwsError: if no credentials are found.
        """
        self._endpoint_url, self._overrule = endpoint_url, overrule
        self.region = region
        with aws_errors("find credentials"):
            self._session = new_session(region)
            if self._session.get_credentials() is None:
                raise AwsError(
                    "no AWS credentials found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the "
                    "environment (`.env` is not read for them), or run `aws configure` or `aws sso login`"
                )

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 ships no types
        """A client of that service.

        Raises:
            AwsError: if the region or address can't be used.
        """
        with aws_errors(f"use {service}"):
            url = self._endpoint_url if self._overrule else resolve_endpoint(service, self._endpoint_url)
            return new_client(
                self._session, service, url, attempts=ATTEMPTS, read_timeout_s=READ_S, max_connections=MOST_CALLS
            )


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Turn boto3's errors into words: `action` could not be done.

    Raises:
        AwsError: in place of them.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy

    try:
        yield
    except (BotoCoreError, ClientError, ValueError) as error:
        failure = read_failure(error)
        raise AwsError(f"can't {action}: {failure.message or failure.code}{_remedy(failure.code)}") from error


def is_missing(error: Exception) -> bool:
    """Whether the error says that the named resource doesn't exist."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    return code.endswith(("QueueDoesNotExist", "NonExistentQueue", "ResourceNotFoundException"))


def _remedy(code: str) -> str:
    if code.startswith(_DENIED):
        return f" ({code}): these credentials lack a right; docs/iam has the policies that the commands need"
    if code in _STALE:
        return f" ({code}): the credentials are expired or wrong; log in again, or check AWS_PROFILE and the clock"
    if code.endswith("QueueDeletedRecently"):
        return f" ({code}): a queue of that name was deleted just now; try again in a minute"
    return "" if code.endswith("Error") else f" ({code})"
