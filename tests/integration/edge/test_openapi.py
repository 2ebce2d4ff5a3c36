"""The documents of the edge: they say what it does, and it does what they say."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks
from starlette.applications import Starlette

from edge import errors
from edge.contract.operations import Operation
from tests.integration.edge.conftest import behind
from tests.integration.edge.replicas import Replica, replica
from tests.integration.edge.tokens import authenticator, token
from tests.support.speech import client_of, speech

EXAMPLES = 8
OPERATOR = token(tenant_id="*", scope="admin")
# An event stream of a living session has no end; those of ended ones are examined apart.
STREAMS = ("stream_status", "stream_transcript")
# Whether an opaque cursor, or noise sent as audio, is taken is not for the document to say.
NOT_PROMISED = "positive_data_acceptance"
PROMISED = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance,
]  # fmt: skip


@contextlib.asynccontextmanager
async def whole(redis_url: str, **settings: Any) -> AsyncIterator[Replica]:  # noqa: ANN401 - any setting
    """An edge with a worker and projections, and with short timeouts."""
    settings = {"session_end_timeout_s": 0.2, "result_timeout_s": 0.2, **settings}
    async with behind(redis_url), replica(redis_url, **settings) as edge:
        yield edge


async def examined(edge: Replica, folder: Path, *options: str) -> str:
    """What schemathesis has against an edge: nothing, if all is well."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{edge.http}/openapi.json",
        "--phases", "examples,coverage,fuzzing", "--checks", "all", "--exclude-checks", NOT_PROMISED,
        *(word for name in STREAMS for word in ("--exclude-operation-id", name)),
        "--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-shrink", "--continue-on-failure",
        "--request-timeout", "10", "--no-color", "--warnings", "off", *options,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return "" if process.returncode == 0 else output.decode()


async def fetched(edge: Replica, path: str) -> dict[str, Any]:
    """A document of the edge."""
    async with client_of(edge) as client:
        found: dict[str, Any] = (await client.get(path)).json()
    return found


async def test_the_edge_keeps_to_its_document(redis_url: str, tmp_path: Path) -> None:
    """Whatever is asked, the edge answers as its OpenAPI document says, takes nothing malformed, and never fails."""
    async with whole(redis_url) as edge:
        found = await examined(edge, tmp_path)
    assert not found, found


async def test_the_edge_keeps_to_its_document_with_authentication(redis_url: str, tmp_path: Path) -> None:
    """With authentication on, the same holds, and nothing that needs a token is to be had without one (SAFE-4)."""
    async with whole(redis_url, authenticator=authenticator()) as edge:
        found = await examined(edge, tmp_path, "--header", f"Authorization: Bearer {OPERATOR}")
    assert not found, found


async def ended(client: httpx2.AsyncClient) -> str:
    """The id of a session that has ended, with a transcript."""
    answer = await client.post("/v1/transcribe", content=speech(2), headers={"content-type": "audio/l16"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_id"])


async def test_answers_about_a_session_are_as_documented(redis_url: str) -> None:
    """All that can be asked of an ended session, its event streams included, is answered as the document says."""
    async with whole(redis_url, result_timeout_s=30, session_end_timeout_s=10) as edge, client_of(edge) as client:
        session_id = await ended(client)
        schema = schemathesis.openapi.from_dict(await fetched(edge, "/openapi.json"))
        asked = []
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            if operation.method.upper() != "GET" or "{session_id}" not in operation.path:
                continue
            case = operation.Case(path_parameters={"session_id": session_id})
            # What the library reads of an event stream is a list of events, which OpenAPI 3.1 has no words for.
            held = PROMISED[:-1] if operation.path.endswith(("/stream", "/events")) else PROMISED
            answer = await asyncio.to_thread(case.call_and_validate, base_url=edge.http, checks=held, timeout=30)
            asked.append((operation.path, answer.status_code))
    assert len(asked) >= 6
    assert {status for _, status in asked} == {200}


async def test_the_document_is_well_formed_and_complete(edge: Replica) -> None:
    """The document is valid OpenAPI 3.1 and names every operation of the table, once, with all its errors."""
    document = await fetched(edge, "/openapi.json")
    schemathesis.openapi.from_dict(document).validate()
    app = edge.serving.config.app
    assert isinstance(app, Starlette)
    operations: tuple[Operation, ...] = app.state.operations
    found = {
        (method.upper(), path): one for path, methods in document["paths"].items() for method, one in methods.items()
    }
    assert set(found) == {(one.method, one.path) for one in operations}
    assert len({one["operationId"] for one in found.values()}) == len(operations)
    for one in operations:
        statuses = {str(error.status) for error in one.errors if error.status}
        assert statuses <= set(found[one.method, one.path]["responses"])


async def test_errors_are_documented_as_problems(edge: Replica) -> None:
    """Each error response of the document refers to the Problem schema under its own media type."""
    document = await fetched(edge, "/openapi.json")
    for methods in document["paths"].values():
        for one in methods.values():
            content = one["responses"]["503"]["content"]["application/problem+json"]
            assert {"$ref": "#/components/schemas/Problem"} in content["schema"]["allOf"]


async def test_no_answer_is_documented_as_a_defect(edge: Replica) -> None:
    """No operation documents an internal error, since none may answer with one."""
    document = await fetched(edge, "/openapi.json")
    assert not [path for path, methods in document["paths"].items() for one in methods.values()
                if "500" in one["responses"]]  # fmt: skip


async def test_only_a_secured_edge_documents_tokens(redis_url: str) -> None:
    """The document asks for tokens where the edge does, and only there (SAFE-4)."""
    async with replica(redis_url) as open_edge:
        document = await fetched(open_edge, "/openapi.json")
        assert not any(one["security"] for methods in document["paths"].values() for one in methods.values())
    async with replica(redis_url, authenticator=authenticator()) as edge:
        paths = (await fetched(edge, "/openapi.json"))["paths"]
        assert paths["/v1/sessions"]["get"]["security"] == [{"bearer": ["read"]}]
        assert {"ticket": []} in paths["/v1/sessions/{session_id}/events"]["get"]["security"]
        assert paths["/v1/health"]["get"]["security"] == []
        assert {"401", "403"} <= set(paths["/v1/sessions"]["get"]["responses"])


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("DELETE", "/v1/sessions/metrics", {"GET"}), ("PATCH", "/v1/sessions", {"GET"}), ("PURGE", "/v1/health", {"GET"}),
])  # fmt: skip
async def test_a_method_that_a_path_lacks_is_refused(
    edge: Replica, method: str, path: str, allowed: set[str]
) -> None:
    """A path's other methods are answered with 405 and those that it has, also where another path would match."""
    async with client_of(edge) as client:
        answer = await client.request(method, path)
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, allowed)
    assert answer.json()["code"] == errors.METHOD_NOT_ALLOWED.code


# The WebSocket


async def messages(edge: Replica) -> list[dict[str, Any]]:
    """All messages of a session with two finals and invalid frames, and of a refused handshake."""
    async with edge.connect("hangover_ms=300") as client:
        await client.next()
        await client.send_text("{")
        await client.send("start")
        for first in range(0, len(audio := speech(2)), 32_000):
            await client.send(audio[first : first + 32_000])
        await client.send("finalize")
        await client.until("final")
        await client.send("stop")
        await client.closed()
    async with edge.connect("sample_rate=1") as refused:
        await refused.closed()
    return [*client.received, *refused.received]


async def test_the_messages_of_a_session_are_as_documented(redis_url: str) -> None:
    """Each message of a real session fits its schema in the AsyncAPI document, field by field."""
    async with whole(redis_url, session_end_timeout_s=10) as edge:
        document = await fetched(edge, "/asyncapi.json")
        found = await messages(edge)
    schemas = document["components"]["schemas"]
    for message in found:
        schema = {**schemas[message["type"]], "components": document["components"]}
        jsonschema_rs.validate(schema, message)
    assert {"session_start", "ack", "final", "session_end", "error"} <= {message["type"] for message in found}


async def test_the_socket_document_is_complete(edge: Replica) -> None:
    """Every reference in the AsyncAPI document leads somewhere, and every error code stands in it."""
    document = await fetched(edge, "/asyncapi.json")
    assert document["asyncapi"] == "3.0.0"
    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    assert document["channels"]["stream"]["address"] == "/v1/transcribe/stream"
    assert set(document["components"]["schemas"]["error"]["properties"]["code"]["enum"]) == {
        one.code for one in errors.TABLE
    }


def references(found: Any) -> list[str]:  # noqa: ANN401 - any JSON
    """All `$ref`s in a document."""
    if isinstance(found, dict):
        own = [str(found["$ref"])] if "$ref" in found else []
        return own + [one for value in found.values() for one in references(value)]
    return [one for value in found for one in references(value)] if isinstance(found, list) else []
