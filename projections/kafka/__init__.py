"""The same events on Kafka topics, for those who live there: `sink` tells them, `subscriber` is one who reads them."""

from projections.kafka.access import Access
from projections.kafka.sink import Kafka, KafkaMissingError

__all__ = ["Access", "Kafka", "KafkaMissingError"]
