"""Work on the log: claims, quarantine, shared recognition, uploads, replays, promotion, erasure, heartbeats."""
