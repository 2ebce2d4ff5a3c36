"""What a process reports about itself: metrics, trace context, heartbeats, error counts, lag."""
