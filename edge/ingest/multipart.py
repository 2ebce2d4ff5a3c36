"""multipart/form-data as it comes: fields whole, the recording in pieces. No input or output."""

from __future__ import annotations

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

AUDIO_PARTS = frozenset({"audio_file", "file"})
"""Either name is the recording's, whichever operation is asked: what other services call theirs."""

FIELD_BYTES = 1024
"""Longest value of a field: the longest that means anything, a language tag, has some 35."""

FIELDS = 32
"""Three times as many as mean anything."""

TYPE = "multipart/form-data"


class FormError(ValueError):
    """The form is malformed, or over a bound; the message is for the client."""


class Part(NamedTuple):
    """What a form says of its recording."""

    filename: str
    content_type: str


class FormReader:
    """Reads one form. Fields are collected in `fields`; `feed` answers with the recording's bytes."""

    def __init__(self, content_type: str) -> None:
        """Read what a request with this `Content-Type` carries.

        Raises:
            FormError: if it names no boundary.
        """
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise FormError("the content type names no boundary")
        self.closing_bytes = len(boundary) + len(b"\r\n----\r\n")
        """Of what ends the form."""
        self.fields: dict[str, str] = {}
        self.audio: Part | None = None
        """Known as soon as the recording begins."""
        self._ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._value = bytearray()
        self._pieces: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins, "on_header_field": self._header_names,
                    "on_header_value": self._header_says, "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end, "on_part_data": self._data,
                    "on_part_end": self._part_ends, "on_end": self._ends,
                },
            )  # fmt: skip
        except FormParserError as error:
            raise FormError(str(error)) from error

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body, however they are cut; returns those that are the recording's.

        Raises:
            FormError: if they can't belong to a form, or go over a bound.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise FormError(f"malformed multipart body: {error}") from error
        taken, self._pieces = self._pieces, []
        return b"".join(taken)

    def close(self) -> None:
        """The body is over.

        Raises:
            FormError: if the form isn't, or had no recording.
        """
        if not self._ended:
            raise FormError("the multipart body ends before its closing boundary")
        if self.audio is None:
            raise FormError("the form has no part named audio_file")

    def _part_begins(self) -> None:
        self._headers.clear()
        self._name = ""
        self._value = bytearray()

    def _header_names(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_says(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise FormError("a part has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if self._name in AUDIO_PARTS:
            if self.audio is not None:
                raise FormError("the form has more than one recording")
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self.audio = Part(filename, self._headers.get(b"content-type", b"").decode("latin-1"))
        elif len(self.fields) == FIELDS:
            raise FormError(f"the form has more than {FIELDS} fields")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name in AUDIO_PARTS:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise FormError(f"a field has more than {FIELD_BYTES} bytes; the recording's part is named audio_file")

    def _part_ends(self) -> None:
        if self._name not in AUDIO_PARTS:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _ends(self) -> None:
        self._ended = True
