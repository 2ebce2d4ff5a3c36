"""Read models over HTTP, health, and webhook subscriptions."""
