"""How to connect to brokers: with or without TLS, with or without a user."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Access:
    """Security settings of the brokers.

    Attributes:
        tls: Whether to use TLS.
        ca_file: Certificates (PEM) of the brokers' authority; empty for the system's.
        cert_file: Certificate (PEM) to show; empty for none.
        key_file: Its key.
        user: For SASL; empty for none.
        password: The user's.
        mechanism: SASL's, one of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
    """

    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = "SCRAM-SHA-512"

    def context(self) -> ssl.SSLContext | None:
        """The TLS context, if TLS is on: brokers' names are checked.

        Raises:
            OSError: if a file is missing or malformed.
        """
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        return context


class Endpoint(NamedTuple):
    """Everything that a connection needs."""

    url: str
    access: Access
    context: ssl.SSLContext | None
    most_bytes: int
