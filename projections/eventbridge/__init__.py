"""The sink `eventbridge`: the ends of recorded files, sent to Amazon EventBridge. docs/aws.md is its page."""

from projections.eventbridge.client import EventBridgeSettings
from projections.eventbridge.sink import EventBridge

__all__ = ["EventBridge", "EventBridgeSettings"]
