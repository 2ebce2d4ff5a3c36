"""Shared recognition: a busy worker offers utterances of recordings, and idle workers recognise them."""
