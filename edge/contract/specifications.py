"""``/openapi.json`` and ``/asyncapi.json``: machine-readable descriptions of everything that this edge serves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edge.contract import asyncapi, openapi
from edge.contract.operations import JSON, Answer, Operation

_ANY_OBJECT = {"type": "object"}


class Specifications:
    """The two documents; the one of HTTP has all operations, these two included."""

    def __init__(self, version: str, stream_path: str, others: Sequence[Operation], *, secured: bool) -> None:
        """Describe `others`, and the WebSocket at `stream_path`; `secured`: operations with a scope need a token."""
        self._secured = secured
        self._version = version
        self._stream_path = stream_path
        self._others = others

    def operations(self) -> Sequence[Operation]:
        """See `edge.contract.operations`."""
        return (
            Operation(
                "GET", openapi.OPENAPI_PATH, "openapi", "Specifications", "This document: HTTP, as OpenAPI 3.1.",
                self.openapi, None, [Answer(200, "The document.", {JSON: _ANY_OBJECT})],
            ),
            Operation(
                "GET", asyncapi.STREAM_DOCUMENT_PATH, "asyncapi", "Specifications",
                "The WebSocket, as AsyncAPI 3.0.", self.asyncapi, None,
                [Answer(200, "The document.", {JSON: _ANY_OBJECT})],
            ),
        )  # fmt: skip

    async def openapi(self, _request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._openapi, media_type=JSON)

    async def asyncapi(self, _request: Request) -> Response:
        """The AsyncAPI document."""
        return Response(self._asyncapi, media_type=JSON)

    @cached_property
    def _openapi(self) -> bytes:
        operations = [*self._others, *self.operations()]
        return msgspec.json.encode(openapi.document(operations, self._version, secured=self._secured))

    @cached_property
    def _asyncapi(self) -> bytes:
        return msgspec.json.encode(asyncapi.document(self._version, self._stream_path))
