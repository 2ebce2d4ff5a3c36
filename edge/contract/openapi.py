"""The OpenAPI document, made of the operations table, so that it describes exactly the operations that are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edge import errors
from edge.contract.asyncapi import STREAM_DOCUMENT_PATH
from edge.contract.operations import Answer, Operation, Parameter
from edge.errors import PROBLEM_JSON, ErrorCode

OPENAPI_PATH = "/openapi.json"

COMMON_ERRORS: Sequence[ErrorCode] = (errors.LOG_UNAVAILABLE,)
"""Errors of every operation, since Redis may be away."""

SCOPED_ERRORS: Sequence[ErrorCode] = (errors.UNAUTHORIZED, errors.FORBIDDEN)
"""Further errors of an operation that needs a token."""

_REF = "#/components/schemas/{name}"

_RETRY_AFTER = {
    "description": "Seconds after which to repeat the request.",
    "schema": {"type": "integer", "minimum": 0},
}

_PROBLEM = {
    "description": "An error, as RFC 9457 describes it.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri", "enum": [error.type for error in errors.TABLE if error.status]},
        "title": {"type": "string", "description": "The error's meaning; the same for every occurrence."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "This occurrence, for a person; the text may change."},
        "code": {"type": "string", "enum": [error.code for error in errors.TABLE if error.status]},
    },
}


def document(operations: Iterable[Operation], version: str, *, secured: bool) -> dict[str, Any]:
    """Describe these operations as OpenAPI 3.1; unless `secured`, none of them needs a token."""
    operations = [one if secured else one._replace(scope=None) for one in operations]
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stenolog",
            "version": version,
            "description": f"Speech to transcripts. The WebSocket is described at `{STREAM_DOCUMENT_PATH}` (AsyncAPI).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": group} for group in dict.fromkeys(one.group for one in operations)],
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM}, "securitySchemes": _SECURITY if secured else {}},
    }


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "ticket": {
        "type": "apiKey", "in": "query", "name": "ticket",
        "description": "For event streams, since EventSource can't send headers: `POST /v1/sessions/{id}/ticket`.",
    },
}  # fmt: skip


def _schemas(operations: Sequence[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The schema of every msgspec type that an operation names, by the type, and the components that they refer to."""
    kinds = [
        kind
        for one in operations
        for kinds in (*(answer.kinds for answer in one.answers), one.body.kinds if one.body else {})
        for kind in kinds.values()
        if not isinstance(kind, Mapping)
    ]
    kinds = list(dict.fromkeys(kinds))
    found, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return dict(zip(kinds, found, strict=True)), components


def _operation(operation: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "tags": [operation.group], "summary": operation.summary}
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        described["requestBody"] = {
            "description": operation.body.description,
            "required": operation.body.required,
            "content": _content(operation.body.kinds, schemas),
        }
    described["responses"] = _responses(operation, schemas)
    described["security"] = _security(operation)
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.scope is None:
        return []
    schemes = [{"bearer": [str(operation.scope)]}]
    return [*schemes, {"ticket": []}] if operation.accepts_ticket else schemes


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name, "in": parameter.place, "description": parameter.description,
        "required": parameter.required or parameter.place == "path", "schema": dict(parameter.schema),
    }  # fmt: skip


def _content(kinds: Mapping[str, Any], schemas: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        media: {"schema": dict(kind) if isinstance(kind, Mapping) else schemas[kind]} for media, kind in kinds.items()
    }


def _responses(operation: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    by_status: dict[int, list[ErrorCode]] = {}
    scoped = SCOPED_ERRORS if operation.scope is not None else ()
    for error in dict.fromkeys([*operation.errors, *COMMON_ERRORS, *scoped]):
        if error.status:
            by_status.setdefault(error.status, []).append(error)
    responses = {str(answer.status): _answer(answer, schemas) for answer in operation.answers}
    for status, some in by_status.items():
        responses[str(status)] = _problem(status, some, responses.get(str(status)))
    return dict(sorted(responses.items()))


def _answer(answer: Answer, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    if answer.kinds:
        described["content"] = _content(answer.kinds, schemas)
    return described


def _problem(status: int, error_codes: Sequence[ErrorCode], other: dict[str, Any] | None) -> dict[str, Any]:
    """The response for the errors of one status; `other` is a response of that status that is no error."""
    description = " ".join(f"`{error.code}`: {error.meaning}" for error in error_codes)
    schema = {
        "allOf": [
            {"$ref": _REF.format(name="Problem")},
            {"properties": {"status": {"const": status}, "code": {"enum": [error.code for error in error_codes]}}},
        ]
    }
    described: dict[str, Any] = {"description": description, "content": {PROBLEM_JSON: {"schema": schema}}}
    if other is not None:
        described = {
            **other, "description": f"{other['description']} Or {description}",
            "content": {**other.get("content", {}), **described["content"]},
        }  # fmt: skip
    if status in {429, 503}:
        described["headers"] = {**described.get("headers", {}), "Retry-After": _RETRY_AFTER}
    return described
