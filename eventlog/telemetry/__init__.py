"""A process's reports about itself: metrics, trace context, error counts."""
