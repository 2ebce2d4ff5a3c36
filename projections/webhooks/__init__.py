"""The sink `webhooks`: signed POSTs to whoever subscribed to a tenant's events."""

from projections.webhooks.sink import Webhooks

__all__ = ["Webhooks"]
