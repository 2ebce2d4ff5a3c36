"""Finds recognisers by name: the built-in ones, and those that installed packages declare as entry points."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from processor.recognisers.base import Recogniser, RecogniserError

ENTRY_POINT_GROUP = "stenolog.recognisers"
"""An entry point in this group names a callable that takes settings as keywords and returns a Recogniser."""

# Modules by name, imported on demand: a worker with `openai` needs no Whisper installed.
_BUILT_IN = {
    "mock": ("processor.recognisers.mock", "MockRecogniser"),
    "openai": ("processor.recognisers.openai", "OpenAIRecogniser"),
    "whisper": ("processor.recognisers.whisper", "WhisperRecogniser"),
}


def load(name: str, **settings: object) -> Recogniser:
    """Return the recogniser of that name, made with those settings.

    Raises:
        RecogniserError: No such recogniser, it does not take these settings, or it could not be loaded.
    """
    factory = _factory(name)
    try:
        return _completed(factory(**settings))
    except TypeError as error:
        message = f"recogniser {name} refused its settings ({', '.join(sorted(settings))}): {error}"
        raise RecogniserError(message, retryable=False) from error


def _completed(recogniser: Recogniser) -> Recogniser:
    """Give a recogniser the attributes that plug-ins of earlier versions lack."""
    if not hasattr(recogniser, "languages"):
        recogniser.languages = frozenset()
    if not hasattr(recogniser, "model"):
        recogniser.model = ""
    return recogniser


def _factory(name: str) -> Callable[..., Recogniser]:
    if name in _BUILT_IN:
        module_name, class_name = _BUILT_IN[name]
        factory: Callable[..., Recogniser] = getattr(import_module(module_name), class_name)
        return factory
    offered = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in offered:
        message = f"no recogniser named {name}; known: {', '.join(sorted({*_BUILT_IN, *offered}))}"
        raise RecogniserError(message, retryable=False)
    plugged_in: Callable[..., Recogniser] = offered[name].load()
    return plugged_in
