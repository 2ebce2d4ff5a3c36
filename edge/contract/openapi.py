"""The OpenAPI document, made of the operations table: what is served is what is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edge import errors
from edge.contract.asyncapi import STREAM_DOCUMENT_PATH
from edge.contract.operations import JSON, Answer, Operation, Parameter
from edge.errors import ErrorCode

OPENAPI_PATH = "/openapi.json"

COMMON_TROUBLES: Sequence[ErrorCode] = (errors.LOG_UNAVAILABLE,)
"""What any operation may answer with, since Redis may be away."""

SCOPED_TROUBLES: Sequence[ErrorCode] = (errors.UNAUTHORIZED, errors.FORBIDDEN)
"""And one that needs a token."""

_REF = "#/components/schemas/{name}"

_RETRY_AFTER = {
    "description": "Seconds after which it is worth asking again.",
    "schema": {"type": "integer", "minimum": 0},
}

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "enum": [trouble.code for trouble in errors.TABLE if trouble.status]},
                "message": {"type": "string", "description": "For a person; may change."},
            },
        }
    },
}


def document(operations: Iterable[Operation], version: str, *, secured: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations; where nothing is `secured` nobody is asked for a token."""
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
        "components": {"schemas": {**components, "Error": _ERROR}, "securitySchemes": _SECURITY if secured else {}},
    }


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "ticket": {
        "type": "apiKey", "in": "query", "name": "ticket",
        "description": "For event streams, since EventSource can't send headers: `POST /v1/sessions/{id}/ticket`.",
    },
}  # fmt: skip


def _schemas(operations: Sequence[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The schema of every msgspec type that is named anywhere, by the type, and the components that they refer to."""
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


def _operation(one: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": one.name, "tags": [one.group], "summary": one.summary}
    if one.description:
        described["description"] = one.description
    if one.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in one.parameters]
    if one.body:
        described["requestBody"] = {
            "description": one.body.description,
            "required": one.body.required,
            "content": _content(one.body.kinds, schemas),
        }
    described["responses"] = _responses(one, schemas)
    described["security"] = _security(one)
    return described


def _security(one: Operation) -> list[dict[str, list[str]]]:
    if one.scope is None:
        return []
    ways = [{"bearer": [str(one.scope)]}]
    return [*ways, {"ticket": []}] if one.ticketed else ways


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name, "in": parameter.place, "description": parameter.description,
        "required": parameter.required or parameter.place == "path", "schema": dict(parameter.schema),
    }  # fmt: skip


def _content(kinds: Mapping[str, Any], schemas: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        media: {"schema": dict(kind) if isinstance(kind, Mapping) else schemas[kind]} for media, kind in kinds.items()
    }


def _responses(one: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    troubles = [*one.troubles, *COMMON_TROUBLES, *(SCOPED_TROUBLES if one.scope is not None else ())]
    by_status: dict[int, list[ErrorCode]] = {}
    for trouble in dict.fromkeys(troubles):
        if trouble.status:
            by_status.setdefault(trouble.status, []).append(trouble)
    responses = {str(answer.status): _answer(answer, schemas) for answer in one.answers}
    for status, some in by_status.items():
        responses[str(status)] = _refusal(status, some, responses.get(str(status)))
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


def _refusal(status: int, troubles: Sequence[ErrorCode], beside: dict[str, Any] | None) -> dict[str, Any]:
    """The answer for troubles of one status; `beside`: an answer of that status which says something else."""
    words = " ".join(f"`{trouble.code}`: {trouble.meaning}" for trouble in troubles)
    schema: dict[str, Any] = {
        "allOf": [
            {"$ref": _REF.format(name="Error")},
            {"properties": {"error": {"properties": {"code": {"enum": [trouble.code for trouble in troubles]}}}}},
        ]
    }
    if beside is None:
        described: dict[str, Any] = {"description": words, "content": {JSON: {"schema": schema}}}
    else:
        content = dict(beside.get("content", {}))
        content[JSON] = {"schema": {"anyOf": [content[JSON]["schema"], schema]} if JSON in content else schema}
        described = {**beside, "description": f"{beside['description']} Or {words}", "content": content}
    if status in {429, 503}:
        described["headers"] = {**described.get("headers", {}), "Retry-After": _RETRY_AFTER}
    return described
