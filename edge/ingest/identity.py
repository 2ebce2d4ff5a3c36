"""The identity for which a recording is processed: by token, else headers, else settings. No input or output."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edge.auth.access import Principal

TENANT_HEADER, USER_HEADER, ACCOUNT_HEADER = "X-Tenant-ID", "X-User-ID", "X-Account-ID"

SYSTEM_USER = "system"
"""The user where none is named."""

# Both go into log lines and events: no spaces, no control characters; the bound is that of a token's subject.
TENANT_PATTERN = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-4[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}"
NAME_PATTERN = r"[\x21-\x7e]{1,255}"
_TENANT, _NAME = re.compile(TENANT_PATTERN), re.compile(NAME_PATTERN)

SHOWN_CHARACTERS = 40
"""Of a malformed value, that are logged: some more than a UUID has, so that the log shows the mistake."""


class Identity(NamedTuple):
    """The tenant, user and account for which a recording is processed."""

    tenant_id: str
    user_id: str
    account_id: str | None


class Malformed(NamedTuple):
    """A header that was ignored."""

    header: str
    shown: str
    """The beginning of its value, escaped."""


class Fallbacks(NamedTuple):
    """The deployment's identity for requests without one; empty for none."""

    tenant_id: str = ""
    user_id: str = ""


def identify(
    principal: Principal, headers: Mapping[str, Sequence[str]], fallbacks: Fallbacks
) -> tuple[Identity, list[Malformed]]:
    """Return the identity, and which headers were malformed; `headers` are the values of each, by the names above.

    A claim of the token, which the principal has, wins, and its header is ignored. A malformed header counts as
    missing.
    """
    malformed: list[Malformed] = []

    def value_of(header: str, pattern: re.Pattern[str]) -> str:
        values = headers.get(header, ())
        if not values:
            return ""
        # Two values, perhaps of a proxy and of its client: neither can be trusted.
        if len(set(values)) > 1 or not pattern.fullmatch(values[0]):
            malformed.append(Malformed(header, ascii(", ".join(values)[:SHOWN_CHARACTERS])))
            return ""
        return values[0]

    tenant_id = principal.tenant_id
    if principal.any_tenant:  # anonymous, or an operator, whose token names none
        tenant_id = (value_of(TENANT_HEADER, _TENANT) or fallbacks.tenant_id or str(uuid.uuid4())).lower()
    user_id = principal.subject or value_of(USER_HEADER, _NAME) or fallbacks.user_id or SYSTEM_USER
    account_id = principal.account_id or value_of(ACCOUNT_HEADER, _NAME) or None
    return Identity(tenant_id, user_id, account_id), malformed
