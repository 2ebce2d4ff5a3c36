"""AWS clients by boto3, for every package that calls AWS: one session factory, one client factory.

boto3 is imported when the first session is made: 16 MB, and slower to import than everything else of a process.
Credentials come from boto3's own chain.
"""

from __future__ import annotations

import logging
import os
from typing import Any

CONNECT_TIMEOUT_S = 5.0
"""Longer than a TCP retransmission or two, and well within a lease."""

# What botocore logs at debug level are whole requests: bodies, signatures, tokens.
_TALKATIVE = ("boto3", "botocore", "urllib3", "s3transfer")


def new_session(region: str) -> Any:  # noqa: ANN401 - boto3 ships no types
    """Return a session of boto3, whose libraries never log requests.

    Raises:
        Exception: botocore's, if its configuration can't be used.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - see the module's docstring

    return boto3.session.Session(region_name=region)


def new_client(
    session: Any,  # noqa: ANN401 - boto3 ships no types
    service: str,
    endpoint_url: str | None,
    *,
    attempts: int,
    read_timeout_s: float,
    max_connections: int,
) -> Any:  # noqa: ANN401 - as above
    """Return a client of `service` with bounds on time, tries and connections; no address leaves it to boto3.

    Raises:
        Exception: botocore's, if the region or address can't be used.
    """
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S, read_timeout=read_timeout_s, max_pool_connections=max_connections,
        tcp_keepalive=True, retries={"total_max_attempts": attempts, "mode": "standard"},
    )  # fmt: skip
    return session.client(service, endpoint_url=endpoint_url or None, config=config)


def resolve_endpoint(service: str, given_url: str) -> str | None:
    """Return the address to name to boto3; None leaves it to boto3.

    An address that we name would win over AWS_ENDPOINT_URL_<SERVICE>, which is the more special one; and one from the
    environment boto3 knows by itself, together with its own rules on when to ignore it.
    """
    special = os.environ.get(f"AWS_ENDPOINT_URL_{'EVENTBRIDGE' if service == 'events' else service.upper()}")
    known = os.environ.get("AWS_ENDPOINT_URL", "")
    return None if special or given_url == known else given_url
