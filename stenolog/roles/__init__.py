"""The process roles: edge, worker, projector, and what runs one of them until it is stopped."""
