"""What the deployment's workers can recognise, kept from their heartbeats."""

from __future__ import annotations

from collections.abc import Mapping

from edge import errors
from edge.errors import ApiError, ErrorCode
from eventlog.events import OptionsChanged
from eventlog.redis.server import Server
from eventlog.work import heartbeats
from eventlog.work.abilities import Abilities, find_refusal, living_abilities

REFRESH_S = 2.0
"""Between two reads: a start that comes before a new worker is known is refused by the worker itself, if need be."""

_ERRORS: Mapping[str, ErrorCode] = {
    "language": errors.UNSUPPORTED_LANGUAGE, "model": errors.UNSUPPORTED_MODEL,
}  # fmt: skip


class OfferedAbilities:
    """The abilities of all living workers of one engine, some seconds old at most."""

    def __init__(self, server: Server, engine: str) -> None:
        """Keep those of the workers on `server` that have `engine`."""
        self._server = server
        self._engine = engine
        self._workers: list[Abilities] = []

    async def refresh(self) -> None:
        """Read them again.

        Raises:
            LogUnavailableError: if Redis can't be reached; the former ones stay.
        """
        self._workers = living_abilities(await heartbeats.read_all(self._server), self._engine)

    def check(self, language: str, model: str) -> None:
        """Refuse options with which no living worker could process a session; without any worker all are accepted.

        Raises:
            ApiError: `unsupported_language` or `unsupported_model`, naming the offered ones.
        """
        if refusal := find_refusal(self._workers, language, model):
            raise ApiError(_ERRORS[refusal.option], refusal.detail)

    def check_change(self, changed: OptionsChanged, model: str) -> None:
        """As `check`, for a change in a session with `model`.

        Raises:
            ApiError: `invalid_configuration`.
        """
        if changed.language is not None and (refusal := find_refusal(self._workers, changed.language, model)):
            raise ApiError(errors.INVALID_CONFIGURATION, refusal.detail)
