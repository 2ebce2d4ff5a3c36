"""The contract of the bodies of batch events: checked before they are sent, published as JSON Schema.

Pure. The types here are the contract; docs/schemas holds what `schema` makes of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from projections.integration_events import VERSION, Kind

# The length as well: in Python's expressions a `$` also stands before a newline at the end.
UuidV4 = Annotated[str, Meta(
    pattern="^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$",
    min_length=36, max_length=36, description="A UUID of version 4.",
)]  # fmt: skip
# Of a recorded file without authentication a UUID v4; else whatever the issuer of tokens calls its tenants.
Tenant = Annotated[str, Meta(
    pattern=r"^[A-Za-z0-9_.:@|+~=/-]+(?![\s\S])", min_length=1, max_length=128, description="Whose recording it is.",
)]  # fmt: skip
# A pattern beside the format, which many validators don't look at.
Instant = Annotated[str, Meta(
    pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\+00:00$", min_length=29, max_length=29,
    description="ISO 8601, UTC, to the millisecond.", extra_json_schema={"format": "date-time"},
)]  # fmt: skip
NonEmpty = Annotated[str, Meta(min_length=1)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown fields are forbidden, so that each new field takes a new version."""


class SpokenWord(_Strict, frozen=True, kw_only=True):
    """One word, its punctuation included; times in seconds of audio."""

    text: str
    start: float
    end: float
    confidence: Annotated[float, Meta(ge=0, le=1)]
    speaker: str


class Transcripts(_Strict, frozen=True, kw_only=True):
    """The text of the recording."""

    raw_transcript: str
    """As it was recognised."""
    cleaned_transcript: str
    """For reading; paragraphs are separated by an empty line."""
    words: list[SpokenWord] | msgspec.UnsetType = msgspec.UNSET
    """The words of the raw transcript in order, in deployments that forward them, if the event can hold them."""


class Reference(_Strict, frozen=True, kw_only=True):
    """An object in S3 that holds the whole body, transcripts in place of this reference."""

    bucket: NonEmpty
    key: NonEmpty
    bytes: Annotated[int, Meta(ge=1)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]


class Referred(_Strict, frozen=True, kw_only=True):
    """Where the transcripts are, if an event can't hold them."""

    reference: Reference


class Failure(_Strict, frozen=True, kw_only=True):
    """The reason why the recording has no transcript."""

    reason: NonEmpty
    detail: str
    """For a person; may be empty, and never holds transcript text."""


class _Body(_Strict, frozen=True, kw_only=True):
    version: Literal["1.0"]
    interaction_id: UuidV4
    """The session's id."""
    tenant_id: Tenant
    user_id: NonEmpty
    account_id: str | None
    timestamp: Instant
    """When the recording was done."""


class BatchProcessingCompleted(_Body, frozen=True, kw_only=True):
    """A recorded file was transcribed."""

    status: Literal["completed"]
    data: Transcripts


class CompletedByReference(_Body, frozen=True, kw_only=True):
    """A recorded file was transcribed, and the transcripts are too long for an event."""

    status: Literal["completed"]
    data: Referred


class BatchProcessingFailed(_Body, frozen=True, kw_only=True):
    """A recorded file could not be transcribed."""

    status: Literal["failed"]
    data: Failure


_TYPES: dict[Kind, type[msgspec.Struct]] = {
    Kind.BATCH_COMPLETED: BatchProcessingCompleted, Kind.BATCH_FAILED: BatchProcessingFailed,
}  # fmt: skip
assert VERSION == "1.0"  # noqa: S101 -- another version is another contract: write its types before it is sent


def find_fault(kind: Kind, body: dict[str, Any]) -> str:
    """Find the place at which the body breaks its contract, without its content; empty if it doesn't."""
    contract = _TYPES.get(kind)
    if contract is None:
        return f"no schema for {kind}"
    if kind is Kind.BATCH_COMPLETED and isinstance(data := body.get("data"), dict) and "reference" in data:
        contract = CompletedByReference
    try:
        msgspec.convert(body, contract)
    except msgspec.ValidationError as error:
        return f"the body breaks its schema at {_place(error)}"
    return ""


def _place(error: msgspec.ValidationError) -> str:
    # Only names are taken from the message: an "invalid enum value" would quote the value itself.
    message, separator, path = str(error).rpartition(" - at `")
    place = path.rstrip("`") if separator else "$"
    named = message if separator else str(error)
    missing = named.startswith("Object missing required field `")
    return f"{place}.{named.split('`')[1]}" if missing else place


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the bodies of that kind."""
    (main, *_), definitions = msgspec.json.schema_components(
        [_TYPES[kind], *([CompletedByReference] if kind is Kind.BATCH_COMPLETED else [])],
        ref_template="#/$defs/{name}",
    )
    root = definitions.pop(main["$ref"].rpartition("/")[2])
    if definitions.pop(CompletedByReference.__name__, None):
        root["properties"]["data"] = {
            "oneOf": [{"$ref": f"#/$defs/{one.__name__}"} for one in (Transcripts, Referred)]
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:stenolog:schema:{kind}:{VERSION}",
        **root,
        "$defs": definitions,
    }
