"""Recognition by any HTTP endpoint that speaks OpenAI's `/v1/audio/transcriptions`."""

import io
import random
import time
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import httpx2
import msgspec

from processor.recognisers.base import Clip, RecogniserError, Recognition

_FIRST_PAUSE_S = 0.25
"""Doubled with every attempt: an overloaded endpoint needs the most time, a live caption has the least."""

_LONGEST_PAUSE_S = 8.0
"""Also the most of a Retry-After that is honoured: behind it the job queue's own retry is the better place to wait."""

_RETRYABLE = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)

_UNKNOWN_CONFIDENCE = 0.5  # the endpoint's plain response has text alone; neither sure nor unsure


class _Answer(msgspec.Struct):
    """The part of a response that is read; the format has more."""

    text: str


class OpenAIRecogniser:
    """Sends each clip as a WAV file, several at once.

    Args:
        base_url: The endpoint up to, not including, `/v1/...`.
        api_key: Sent as bearer token; empty sends none.
        model: The endpoint's name of the model.
        timeout_s: For one attempt.
        max_attempts: How often a clip is sent at most, the first time included.
        max_parallel: How many calls run side by side.
        max_batch: How many clips of one call are sent at once.
        pause: Waits that many seconds between attempts.
    """

    name = "openai"
    languages: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        base_url: str = "https://api.openai.com",
        api_key: str = "",
        model: str = "whisper-1",
        timeout_s: float = 30.0,
        max_attempts: int = 4,
        max_parallel: int = 4,
        max_batch: int = 4,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.max_batch = max_batch
        self.max_parallel = max_parallel
        self.model = model
        self._max_attempts = max_attempts
        self._pause = pause
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.Client(base_url=base_url, headers=headers, timeout=timeout_s)
        self._senders = ThreadPoolExecutor(max_batch * max_parallel, thread_name_prefix="openai-recogniser")

    def recognise(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Return one recognition per clip, in order.

        Raises:
            RecogniserError: A clip was refused, or failed on its last attempt.
        """
        return list(self._senders.map(self._recognise_one, clips))

    def close(self) -> None:
        """Close the connections, once running calls are done."""
        self._senders.shutdown()
        self._client.close()

    def _recognise_one(self, clip: Clip) -> Recognition:
        if not clip.pcm:
            return Recognition(text="", confidence=0.0)
        text = self._send(clip)
        return Recognition(text=text, confidence=_UNKNOWN_CONFIDENCE if text else 0.0)

    def _send(self, clip: Clip) -> str:
        for attempt in range(1, self._max_attempts):
            try:
                return self._attempt(clip)
            except _TryAgainError as error:
                # Random, so that workers that were refused together do not retry together.
                backoff_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * (0.5 + random.random())  # noqa: S311 -- no secret
                self._pause(min(_LONGEST_PAUSE_S, max(backoff_s, error.retry_after_s)))
        return self._attempt(clip)

    def _attempt(self, clip: Clip) -> str:
        fields = {"model": self.model, "response_format": "json"}
        if clip.language:
            fields["language"] = clip.language.split("-")[0]  # the endpoint takes ISO 639-1 codes
        try:
            response = self._client.post(
                "/v1/audio/transcriptions", data=fields, files={"file": ("clip.wav", _wav(clip), "audio/wav")}
            )
        except httpx2.TransportError as error:
            message = f"transcription endpoint not reached: {type(error).__name__}"
            raise _TryAgainError(message) from error
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response)
        try:
            return msgspec.json.decode(response.content, type=_Answer).text.strip()
        except msgspec.DecodeError as error:
            message = "transcription endpoint returned no transcription"
            raise RecogniserError(message, retryable=False) from error


class _TryAgainError(RecogniserError):
    """An attempt that may succeed later."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message, retryable=True)
        self.retry_after_s = retry_after_s


def _refusal(response: httpx2.Response) -> RecogniserError:
    message = f"transcription endpoint returned {response.status_code}"
    if response.status_code in _RETRYABLE or response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        retry_after = response.headers.get("Retry-After", "")
        return _TryAgainError(message, float(retry_after) if retry_after.isdigit() else 0.0)
    return RecogniserError(message, retryable=False)


def _wav(clip: Clip) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(clip.sample_rate_hz)
        writer.writeframes(clip.pcm)
    return file.getvalue()
