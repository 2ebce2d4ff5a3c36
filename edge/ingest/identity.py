"""On whose behalf a recording is processed: by token, else by headers, else by the deployment. No input or output."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edge.auth.access import Principal

TENANT_HEADER, USER_HEADER, ACCOUNT_HEADER = "X-Tenant-ID", "X-User-ID", "X-Account-ID"

SYSTEM_USER = "system"
"""Where nobody is named."""

# Both go into log lines and events: no spaces, no control characters; the bound is that of a token's subject.
TENANT_PATTERN = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-4[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}"
NAME_PATTERN = r"[\x21-\x7e]{1,255}"
_TENANT, _NAME = re.compile(TENANT_PATTERN), re.compile(NAME_PATTERN)

SHOWN_CHARACTERS = 40
"""Of a malformed value that are logged: some more than a UUID has, so that one sees what is wrong with it."""


class Identity(NamedTuple):
    """On whose behalf."""

    tenant_id: str
    user_id: str
    account_id: str | None


class Malformed(NamedTuple):
    """A header that could not be heeded."""

    header: str
    shown: str
    """The beginning of its value, escaped."""


class Fallbacks(NamedTuple):
    """What the deployment says where a request says nothing; empty for nothing."""

    tenant_id: str = ""
    user_id: str = ""


def identified(
    principal: Principal, headers: Mapping[str, Sequence[str]], fallbacks: Fallbacks
) -> tuple[Identity, list[Malformed]]:
    """Who it is, and which headers were malformed; `headers` are the values of each, by the names above.

    What the token claims, which is what the principal has, wins, and then nothing else is looked at. A malformed header
    counts as missing.
    """
    malformed: list[Malformed] = []

    def said(header: str, pattern: re.Pattern[str]) -> str:
        values = headers.get(header, ())
        if not values:
            return ""
        # Said twice, by a proxy and by its client perhaps, it is nobody's word.
        if len(set(values)) > 1 or not pattern.fullmatch(values[0]):
            malformed.append(Malformed(header, ascii(", ".join(values)[:SHOWN_CHARACTERS])))
            return ""
        return values[0]

    tenant_id = principal.tenant_id
    if principal.any_tenant:  # nobody in particular, or an operator, whose token names none
        tenant_id = (said(TENANT_HEADER, _TENANT) or fallbacks.tenant_id or str(uuid.uuid4())).lower()
    user_id = principal.subject or said(USER_HEADER, _NAME) or fallbacks.user_id or SYSTEM_USER
    account_id = principal.account_id or said(ACCOUNT_HEADER, _NAME) or None
    return Identity(tenant_id, user_id, account_id), malformed
