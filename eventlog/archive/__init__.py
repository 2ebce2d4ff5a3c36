"""The archive: finished sessions outside Redis, their audio as FLAC and their facts, to be read back by replays."""
