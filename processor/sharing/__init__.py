"""Recognition shared among workers: utterances of recordings are offered to whoever has nothing better to do."""
