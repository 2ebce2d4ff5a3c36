"""The sink `webhooks`: signed POSTs to the subscriptions of a tenant's events."""

from projections.webhooks.sink import Webhooks

__all__ = ["Webhooks"]
