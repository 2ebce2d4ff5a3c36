"""The projections' side of the log: pull and guarded apply, dead letters, sink state, rebuild."""
