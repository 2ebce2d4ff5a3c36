"""An edge as its clients reach it: addresses, errors, and single HTTP requests."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from stenolog.errors import UserError

TIMEOUT_S = 30.0
"""Of one request: an edge answers in milliseconds; a day's transcript over a slow line takes some seconds."""

_STREAM_PATH = "/v1/transcribe/stream"


class ClientError(UserError):
    """The edge refuses, or the session can't continue; the message is for the user."""

    def __init__(self, message: str, status: int = 0) -> None:
        """`status` is the HTTP status of a refusal."""
        super().__init__(message)
        self.status = status


class UnreachableError(ClientError):
    """No edge answers at the address."""

    def __init__(self, url: str, reason: object) -> None:
        super().__init__(
            f"no edge answers at {url} ({reason}); start one with `stenolog up`, or name another with --url"
        )


def stream_url(base: str, parameters: Mapping[str, str]) -> str:
    """The WebSocket address of the edge at `base` (http, https, ws or wss, with or without a path)."""
    parts = urlsplit(base if "://" in base else f"http://{base}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, _root(parts.path) + _STREAM_PATH, urlencode(parameters), ""))


def http_url(base: str, path: str) -> str:
    """The HTTP address of a path on the edge at `base`."""
    parts = urlsplit(base if "://" in base else f"http://{base}")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, _root(parts.path) + path, "", ""))


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token; none without one."""
    return {"authorization": f"Bearer {token}"} if token else {}


def refusal(status: int, body: bytes) -> ClientError:
    """The error of a request that an edge refused; the message is the edge's own where it gave one."""
    try:
        found: dict[str, Any] = json.loads(body)
        # `/v1` answers by RFC 9457, `/batch/process` in the form of the API that it stands in for.
        found = found["error"] if "error" in found else {"message": found["detail"], **found}
        code = found.get("code")
        return ClientError(f"{found['message']} ({code})" if code else str(found["message"]), status)
    except (ValueError, KeyError, TypeError):
        return ClientError(f"the server answered {status}", status)


def get(url: str, path: str, *, token: str = "", parameters: Mapping[str, str | int] | None = None) -> bytes:
    """The answer of the edge at `url` to one GET, by the standard library, which loads in no time.

    Raises:
        ClientError: if it refuses, or can't be reached.
    """
    address = http_url(url, path) + (f"?{urlencode(parameters)}" if parameters else "")
    if urlsplit(address).scheme not in {"http", "https"}:
        raise ClientError(f"{address} is no address of an edge")
    try:
        request = urllib.request.Request(address, headers=bearer(token))  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        raise refusal(error.code, error.read()) from error
    except ValueError as error:
        raise ClientError(f"{address} is no address of an edge") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(url, error) from error


def _root(path: str) -> str:
    return path.removesuffix(_STREAM_PATH).rstrip("/")
