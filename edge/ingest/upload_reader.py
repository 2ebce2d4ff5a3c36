"""A recording that comes in by HTTP: what is said of it, then its bytes, no faster than they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import ClientDisconnect, Request

from edge import errors
from edge.errors import ApiError
from edge.ingest.formats import HEAD_BYTES, OPTIONS
from edge.ingest.multipart import TYPE, FormError, FormReader
from edge.server.lingering_close import mark_read

HELD_BYTES = 1_048_576
"""Of a form's recording that are kept while fields may still follow it, and of a chunk before any of it is appended."""

FORM_BYTES = 65_536
"""What a form may have beside its recording; 32 fields of 1 KiB with their headers are less."""

SILENCE_S = 60.0
"""Without a byte of a recording that isn't over: its client has gone without a word, and a session waits for it."""

FIELDS = frozenset({*OPTIONS, "session_id", "offset"})


def both(query: Mapping[str, str], body: Mapping[str, str]) -> dict[str, str]:
    """The options of a request's query and body together.

    Raises:
        ApiError: `invalid_request` if they contradict each other.
    """
    for name in query.keys() & body.keys():
        if query[name] != body[name]:
            raise ApiError(errors.INVALID_REQUEST, f"query and body say different things of {name}")
    return {**query, **body}


class UploadReader:
    """One request's recording. `begin` reads as much as tells what it is; `pieces` gives all of it, once."""

    expected_bytes: int | None = None
    """How long it will be in all, as far as the request's own length tells; of a form to some dozens of bytes."""

    def __init__(self, request: Request, most_bytes: int) -> None:
        """Take at most `most_bytes` of recording from `request`."""
        self.options: dict[str, str] = {name: value for name, value in request.query_params.items() if name in FIELDS}
        self.content_type = request.headers.get("content-type", "")
        self.filename = ""
        self.held = b""
        """What was read of it before `pieces`."""
        self.is_whole = False
        """Whether `held` is all there is."""
        self._most_bytes = most_bytes
        self._size = 0
        self._read = 0
        self._stream = request.stream()
        self._request = request
        self._form: FormReader | None = None
        length = request.headers.get("content-length", "")
        self._length = int(length[:20]) if length.isdigit() else None
        if self._length is not None and self._length > most_bytes + FORM_BYTES:
            raise self._too_large()

    @property
    def size_bytes(self) -> int:
        """How much of it has come."""
        return self._size

    async def begin(self, *, hold_bytes: int = HEAD_BYTES) -> UploadReader:
        """Read on until it is known what it is, and at least `hold_bytes` of it or all; returns itself.

        Raises:
            ApiError: `invalid_request` or `too_large`.
        """
        if self.content_type.partition(";")[0].strip().lower() == TYPE:
            self._form = self._checked_form()
            hold_bytes = max(hold_bytes, HELD_BYTES)
        held: list[bytes] = []
        size = 0
        while size < hold_bytes and not self.is_whole:
            piece = await self._next()
            self.is_whole = piece is None
            held.append(piece or b"")
            size += len(piece or b"")
        self.held = b"".join(held)
        if self._form is not None:
            self._take_form(self._form)
        self.expected_bytes = self._expected_bytes()
        return self

    async def pieces(self) -> AsyncIterator[bytes]:
        """The recording's bytes in order, as they come.

        Raises:
            ApiError: `invalid_request` (the client went away, or the form is malformed) or `too_large`.
        """
        held, self.held = self.held, b""
        if held:
            yield held
        while not self.is_whole:
            piece = await self._next()
            if piece:
                yield piece
            self.is_whole = piece is None

    async def left(self) -> None:
        """Return when its client has gone away; to be asked once all of it was read."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _expected_bytes(self) -> int | None:
        if self.is_whole:
            return self._size
        if self._length is None:
            return None
        # What stands before it in a form has been read by now, and its closing boundary comes last.
        return max(self._size, self._size + self._length - self._read - (self._form.closing_bytes if self._form else 0))

    async def _next(self) -> bytes | None:
        """What comes next of the recording, perhaps nothing; None at its end."""
        try:
            async with asyncio.timeout(SILENCE_S):
                data = await anext(self._stream, None)
            if data is None:
                mark_read(self._request)
                if self._form is not None:
                    self._form.close()
                return None
            self._read += len(data)
            piece = data if self._form is None else self._form.feed(data)
        except ClientDisconnect:
            raise ApiError(errors.INVALID_REQUEST, "the client went away before the end of its recording") from None
        except TimeoutError:
            raise ApiError(errors.INVALID_REQUEST, f"nothing came for {SILENCE_S:g} s") from None
        except FormError as error:
            raise ApiError(errors.INVALID_REQUEST, str(error)) from None
        self._size += len(piece)
        if self._size > self._most_bytes or self._read - self._size > FORM_BYTES:
            raise self._too_large()
        return piece

    def _checked_form(self) -> FormReader:
        try:
            return FormReader(self.content_type)
        except FormError as error:
            raise ApiError(errors.INVALID_REQUEST, str(error)) from None

    def _take_form(self, form: FormReader) -> None:
        if form.audio is None:
            raise ApiError(errors.INVALID_REQUEST, "the part audio_file comes too late, or not at all")
        if twice := self.options.keys() & form.fields.keys():
            raise ApiError(errors.INVALID_REQUEST, f"{', '.join(sorted(twice))}: in the query string and in the form")
        self.content_type, self.filename = form.audio.content_type, form.audio.filename
        self.options = both(self.options, {name: value for name, value in form.fields.items() if name in FIELDS})
        # Shared with the reader from now on: what comes after so much recording would come too late to be heeded.
        form.fields = _Late(form.fields)

    def _too_large(self) -> ApiError:
        return ApiError(errors.TOO_LARGE, f"a request has at most {self._most_bytes} bytes of recording")


class _Late(dict[str, str]):
    """Fields of a form after the time at which they could be heeded."""

    def __setitem__(self, name: str, value: str) -> None:
        if name in FIELDS:
            raise FormError(f"the field {name} must come before a recording of more than {HELD_BYTES} bytes")
        super().__setitem__(name, value)
