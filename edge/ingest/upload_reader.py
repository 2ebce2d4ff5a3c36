"""Bodies of requests: a recording with its options, read no faster than it is appended, and small bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import ClientDisconnect, Request

from edge import errors
from edge.errors import ApiError
from edge.ingest.formats import OPTIONS, SNIFFED_BYTES
from edge.ingest.multipart import MEDIA_TYPE, FormError, FormReader
from edge.server.request_body import mark_read
from edge.session.parameters import collect

BUFFERED_BYTES = 1_048_576
"""Of a form's recording, kept while fields may still follow it, and of a chunk before any of it is appended."""

FORM_BYTES = 65_536
"""What a form may have beside its recording: the longest terms, each a field, and the longest prompt are less."""

SILENCE_S = 60.0
"""Without a byte of an unfinished recording: its client has gone without closing, and a session waits for it."""

FIELDS = frozenset({*OPTIONS, "session_id", "offset"})


def merge_options(query: Mapping[str, str], body: Mapping[str, str]) -> dict[str, str]:
    """Merge the options of a request's query and body.

    Raises:
        ApiError: `invalid_request` if they contradict each other.
    """
    for name in query.keys() & body.keys():
        if query[name] != body[name]:
            raise ApiError(errors.INVALID_REQUEST, f"query and body give different values for {name}")
    return {**query, **body}


class UploadReader:
    """One request's recording. `read_head` reads enough to recognise it; `stream` yields all of it, once."""

    expected_bytes: int | None = None
    """Its whole size, as far as the request's own length shows; of a form give or take some dozens of bytes."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        """Accept at most `max_bytes` of recording from `request`.

        Raises:
            ApiError: `too_large` if the request announces more.
        """
        self.options = collect((name, value) for name, value in request.query_params.multi_items() if name in FIELDS)
        self.content_type = request.headers.get("content-type", "")
        self.filename = ""
        self.head = b""
        """The bytes that were read before `stream`."""
        self.is_complete = False
        """Whether the request was read to its end."""
        self._max_bytes = max_bytes
        self._recording_bytes = 0
        self._read_bytes = 0
        self._body = request.stream()
        self._request = request
        self._form: FormReader | None = None
        length = request.headers.get("content-length", "")
        self._length = int(length[:20]) if length.isdigit() else None
        if self._length is not None and self._length > max_bytes + FORM_BYTES:
            raise self._too_large()

    @property
    def size_bytes(self) -> int:
        """How much of the recording was read."""
        return self._recording_bytes

    async def read_head(self, *, head_bytes: int = SNIFFED_BYTES) -> UploadReader:
        """Read the options and at least `head_bytes` of the recording, or all of it; return itself.

        Raises:
            ApiError: `invalid_request` or `too_large`.
        """
        if self.content_type.partition(";")[0].strip().lower() == MEDIA_TYPE:
            self._form = self._make_form_reader()
            head_bytes = max(head_bytes, BUFFERED_BYTES)
        parts: list[bytes] = []
        size = 0
        while size < head_bytes and not self.is_complete:
            part = await self._next()
            self.is_complete = part is None
            parts.append(part or b"")
            size += len(part or b"")
        self.head = b"".join(parts)
        if self._form is not None:
            self._apply_form(self._form)
        self.expected_bytes = self._expected_bytes()
        return self

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the recording's bytes in order, as they arrive.

        Raises:
            ApiError: `invalid_request` (the client disconnected, or the form is malformed) or `too_large`.
        """
        head, self.head = self.head, b""
        if head:
            yield head
        while not self.is_complete:
            part = await self._next()
            if part:
                yield part
            self.is_complete = part is None

    async def wait_for_disconnect(self) -> None:
        """Return when the client has disconnected; call it only once the request was read to its end."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _expected_bytes(self) -> int | None:
        if self.is_complete:
            return self._recording_bytes
        if self._length is None:
            return None
        # The fields before the recording have been read by now, and the form's closing boundary comes last.
        closing_bytes = self._form.closing_bytes if self._form else 0
        return max(self._recording_bytes, self._recording_bytes + self._length - self._read_bytes - closing_bytes)

    async def _next(self) -> bytes | None:
        """Read the next bytes of the recording, perhaps none; None at its end."""
        try:
            async with asyncio.timeout(SILENCE_S):
                data = await anext(self._body, None)
            if data is None:
                mark_read(self._request)
                if self._form is not None:
                    self._form.close()
                return None
            self._read_bytes += len(data)
            part = data if self._form is None else self._form.feed(data)
        except ClientDisconnect:
            raise ApiError(errors.INVALID_REQUEST, "the client disconnected before the end of its recording") from None
        except TimeoutError:
            raise ApiError(errors.INVALID_REQUEST, f"no byte arrived for {SILENCE_S:g} s") from None
        except FormError as error:
            raise ApiError(errors.INVALID_REQUEST, str(error)) from None
        self._recording_bytes += len(part)
        if self._recording_bytes > self._max_bytes or self._read_bytes - self._recording_bytes > FORM_BYTES:
            raise self._too_large()
        return part

    def _make_form_reader(self) -> FormReader:
        try:
            return FormReader(self.content_type)
        except FormError as error:
            raise ApiError(errors.INVALID_REQUEST, str(error)) from None

    def _apply_form(self, form: FormReader) -> None:
        if form.audio is None:
            raise ApiError(errors.INVALID_REQUEST, "the part audio_file comes too late, or is missing")
        fields = {name: value for name, value in form.fields.items() if name in FIELDS and value}
        if twice := self.options.keys() & fields.keys():
            raise ApiError(errors.INVALID_REQUEST, f"{', '.join(sorted(twice))}: in the query string and in the form")
        self.content_type, self.filename = form.audio.content_type, form.audio.filename
        self.options = merge_options(self.options, fields)
        # Shared with the reader from now on: an option after so much recording comes too late to be applied.
        form.fields = _LateFields(form.fields)

    def _too_large(self) -> ApiError:
        return ApiError(errors.TOO_LARGE, f"a request has at most {self._max_bytes} bytes of recording")


class _LateFields(dict[str, str]):
    """Fields of a form after the point up to which options are applied: an option among them is an error."""

    def __setitem__(self, name: str, value: str) -> None:
        if name in FIELDS and value:
            raise FormError(f"the field {name} must come before a recording of more than {BUFFERED_BYTES} bytes")
        super().__setitem__(name, value)
