"""Texts as clients get them: numbers as digits and profanities masked, where a session asks for it. Pure."""
