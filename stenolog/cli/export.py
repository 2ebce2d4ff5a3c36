"""`stenolog export`: a session's transcript from a running edge, as text or captions."""

import http.client
import json
import sys
import urllib.error
import urllib.request
from urllib.parse import quote

from stenolog.cli.errors import UserError, told
from stenolog.client.websocket import ClientError, UnreachableError, http_url

TIMEOUT_S = 30.0
"""An edge answers in milliseconds; a day's transcript over a slow line takes some seconds."""


def run(*, session: str, url: str, form: str, token: str) -> None:
    """Print the transcript of `session` as `form`: txt, json, srt or vtt."""
    with told():
        text = fetched(http_url(url, f"/v1/sessions/{quote(session, safe='')}/transcript.{form}"), token)
    # As it came: captions are counted in lines, and a final newline of ours would be one more.
    sys.stdout.write(text)


def fetched(address: str, token: str) -> str:
    """What is there.

    Raises:
        ClientError: if it can't be had; the message is the edge's own where it gave one.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        request = urllib.request.Request(address, headers=headers)  # noqa: S310 - checked right below
        if request.type not in {"http", "https"}:
            raise UserError(f"{address} is no address of an edge")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        raise ClientError(_message(error)) from error
    except ValueError as error:
        raise ClientError(f"{address} is no address of an edge") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"no edge answers at {address} ({error})") from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code}"
