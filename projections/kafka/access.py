"""How brokers are spoken to: in the clear or by TLS, as somebody or nobody."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Access:
    """What brokers ask for.

    Attributes:
        tls: Whether to speak TLS.
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
        """For TLS, if it is to be spoken: brokers' names are checked.

        Raises:
            OSError: if a file isn't there or isn't what it should be.
        """
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        return context


class Reach(NamedTuple):
    """Everything that a connection needs."""

    url: str
    access: Access
    context: ssl.SSLContext | None
    most_bytes: int
