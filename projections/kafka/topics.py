"""The topics, typed, for a Faust app that writes or reads them. Needs the extra `kafka`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust
import msgspec
from faust.serializers import codecs
from faust.types import AppT, TopicT
from faust.types.tuples import Message

from projections.kafka.records import TYPE_HEADER, Record, UnreadableRecord, read_header, read_record

CODEC = "stenolog"
"""Name under which the codec is registered with Faust."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class _Codec(codecs.Codec):
    """JSON by msgspec, which encodes its own structs."""

    def _loads(self, s: bytes) -> Any:  # noqa: ANN401 - any JSON
        return _decoder.decode(s)

    def _dumps(self, s: Any) -> bytes:  # noqa: ANN401
        return _encoder.encode(s)


codecs.register(CODEC, _Codec())


class EventSchema(faust.Schema[Any, Any]):
    """The header `event_type` gives the type of a value, since a topic has several.

    A record that can't be read becomes an `UnreadableRecord`: an exception would end the agent at every such record.
    """

    def __init__(self) -> None:
        super().__init__(key_type=str, value_serializer=CODEC, allow_empty=False)

    def loads_value(
        self, app: AppT, message: Message, *,  # noqa: ARG002
        loads: Callable[..., Any] | None = None, serializer: codecs.CodecArg | None = None,  # noqa: ARG002
    ) -> Record | UnreadableRecord:
        """Decode the record, or say why it can't be read."""
        try:
            payload = codecs.loads(CODEC, message.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return UnreadableRecord(reason=f"no JSON: {error}")
        return read_record(read_header(message.headers, TYPE_HEADER), payload)


def typed_topic(app: AppT, name: str) -> TopicT:
    """One of Stenolog's topics as `app` sees it."""
    return app.topic(name, schema=EventSchema())
