"""The sink `kafka`: the same events on Kafka topics; `subscriber` is an example of a consumer."""

from projections.kafka.access import Access
from projections.kafka.sink import Kafka, KafkaMissingError

__all__ = ["Access", "Kafka", "KafkaMissingError"]
