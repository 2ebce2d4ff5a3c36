"""Captions made of finals' words: cut at clauses, in lines that can be read at a glance, timed for reading. Pure."""
