"""Tickets for event streams: an `EventSource` cannot send a token, so it sends a ticket that its page fetched."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge import errors
from edge.auth.access import Scope
from edge.contract.operations import JSON, SESSION_ID, Answer, Operation, json_response, principal_of
from edge.core import EdgeCore


class Ticket(msgspec.Struct):
    """The answer of ``/v1/sessions/{session_id}/ticket``."""

    ticket: str
    """For ``?ticket=`` of the session's event streams."""
    expires_in_s: int


class Tickets:
    """``/v1/sessions/{session_id}/ticket``."""

    def __init__(self, core: EdgeCore) -> None:
        """Issue tickets through the access of `core`."""
        self._access = core.access

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "POST", "/v1/sessions/{session_id}/ticket", "issue_ticket", "Sessions",
                "A short-lived ticket for the session's event streams.", self.issue, Scope.READ,
                [Answer(200, "The ticket.", {JSON: Ticket})], [SESSION_ID], errors=[errors.UNKNOWN_SESSION],
                description="It admits to them any number of times until it expires, and to nothing else.",
            ),
        )  # fmt: skip

    async def issue(self, request: Request) -> Response:
        """Issue a ticket that admits to the event streams of this session that the caller's token admits to."""
        principal = principal_of(request)
        session = await self._access.find_session(principal, request.path_params["session_id"])
        ticket = await self._access.issue_ticket(principal, session)
        return json_response(Ticket(ticket, self._access.ticket_ttl_s))
