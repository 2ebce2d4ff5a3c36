"""multipart/form-data as it arrives: fields whole, the recording in parts. No input or output."""

from __future__ import annotations

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from edge.session.parameters import REPEATED

AUDIO_PARTS = frozenset({"audio_file", "file"})
"""Either name is the recording's, for every operation: other services use both."""

FIELD_BYTES = 8_192
"""Longest value of a field: 2,000 characters of terms, of four bytes each."""

FIELDS = 32
"""Of different names: twice as many as have a meaning."""

MEDIA_TYPE = "multipart/form-data"


class FormError(ValueError):
    """The form is malformed, or over a bound; the message is for the client."""


class Part(NamedTuple):
    """The recording's part of a form."""

    filename: str
    content_type: str


class FormReader:
    """Parses one form. It collects fields in `fields`; `feed` returns the recording's bytes."""

    def __init__(self, content_type: str) -> None:
        """Parse the body of a request with this `Content-Type`.

        Raises:
            FormError: if it names no boundary.
        """
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise FormError("the content type names no boundary")
        self.closing_bytes = len(boundary) + len(b"\r\n----\r\n")
        """Of the form's end."""
        self.fields: dict[str, str] = {}
        self.audio: Part | None = None
        """Known as soon as the recording begins."""
        self._has_ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._name = ""
        self._value = bytearray()
        self._audio_parts: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin, "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value, "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished, "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end, "on_end": self._on_end,
                },
            )  # fmt: skip
        except FormParserError as error:
            raise FormError(str(error)) from error

    def feed(self, data: bytes) -> bytes:
        """Parse the next bytes of the body, cut anywhere; return those that are the recording's.

        Raises:
            FormError: if they cannot belong to a form, or exceed a bound.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise FormError(f"malformed multipart body: {error}") from error
        parts, self._audio_parts = self._audio_parts, []
        return b"".join(parts)

    def close(self) -> None:
        """End the body.

        Raises:
            FormError: if the form has not ended, or had no recording.
        """
        if not self._has_ended:
            raise FormError("the multipart body ends before its closing boundary")
        if self.audio is None:
            raise FormError("the form has no part named audio_file")

    def _on_part_begin(self) -> None:
        self._headers.clear()
        self._name = ""
        self._value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise FormError("a part has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if self._name in AUDIO_PARTS:
            if self.audio is not None:
                raise FormError("the form has more than one recording")
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self.audio = Part(filename, self._headers.get(b"content-type", b"").decode("latin-1"))
        elif len(self.fields) == FIELDS and self._name not in self.fields:
            raise FormError(f"the form has more than {FIELDS} fields")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name in AUDIO_PARTS:
            self._audio_parts.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise FormError(f"a field has more than {FIELD_BYTES} bytes; the recording's part is named audio_file")

    def _on_part_end(self) -> None:
        if self._name not in AUDIO_PARTS:
            value = self._value.decode("utf-8", "replace")
            earlier = self.fields.get(self._name) if self._name == REPEATED else None
            self.fields[self._name] = f"{earlier}\n{value}" if earlier else value

    def _on_end(self) -> None:
        self._has_ended = True
