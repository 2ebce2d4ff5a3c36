"""Fixtures of the decoding tests: the processor's."""

from tests.processor.conftest import deployment, single

__all__ = ["deployment", "single"]
