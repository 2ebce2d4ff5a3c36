"""The clients of `benchmarks.churn`: each slot opens a session, speaks, stops, gets the end, fetches or deletes."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx2
import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.speech import FRAME_MS, FRAME_SAMPLES, RATE_HZ, frames
from processor.recognisers import Clip
from processor.recognisers.mock import MockRecogniser
from processor.speech import Segmenter, SegmenterSettings
from stenolog.client.edge import stream_url
from stenolog.local.demo import recordings, samples

SPEECH_S = 1.2
"""A few words."""

STEP_S = 20.0
"""Bound of each step of a session, far above what any takes."""

_decode = msgspec.json.Decoder().decode


def _speech() -> list[bytes]:
    """The shortest bundled sentence's beginning, in frames."""
    path = min(recordings(), key=lambda found: found.stat().st_size)
    count = int(SPEECH_S * 1000 / FRAME_MS)
    return frames(samples(path))[1 : 1 + count]


def expected_transcript() -> str:
    """What the mock recogniser makes of it."""
    segmenter = Segmenter(SegmenterSettings(), RATE_HZ)
    boundaries = [one for frame in _speech() for one in segmenter.feed(frame)] + segmenter.close()
    clips = [Clip(pcm=one.utterance.pcm, sample_rate_hz=RATE_HZ) for one in boundaries if one.utterance]
    return " ".join(recognition.text for recognition in MockRecogniser().recognise(clips))


class SessionListener(WSListener):
    """One session's connection."""

    def __init__(self) -> None:
        """Futures of the start and the end."""
        self.started: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take in one message."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            message = _decode(frame.get_payload_as_bytes())
            match message["type"]:
                case "session_start":
                    self.started.set_result(message)
                case "session_end":
                    self.ended.set_result(message)
                case "error":
                    self._failed(message["code"])

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - the library's signature
        """End what still waits for a message."""
        self._failed("disconnected")

    def _failed(self, why: str) -> None:
        for future in (self.started, self.ended):
            if not future.done():
                future.set_exception(ConnectionError(why))
                future.exception()  # seen, in case it is never awaited


class ChurnClients:
    """All slots."""

    def __init__(self, url: str, http: httpx2.AsyncClient, transcript: str) -> None:
        """Speak to the edge at `url`; each session must give `transcript`."""
        self._url = stream_url(url, {"sample_rate": str(RATE_HZ)})
        self._http = http
        self._transcript = transcript
        self._speech = _speech()
        self._open = 0
        self._deletes = False
        self.done = 0
        self.most_open = 0
        self.errors: Counter[str] = Counter()

    async def run(self, slots: int, cycle_s: float, seconds: float) -> None:
        """Let each slot hold a session per `cycle_s`, begun at times spread evenly, and begin none after `seconds`."""
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self._slot(cycle_s * number / slots, cycle_s, until) for number in range(slots)))

    async def _slot(self, delay_s: float, cycle_s: float, until: float) -> None:
        await asyncio.sleep(delay_s)
        due = time.perf_counter()
        while due < until:
            try:
                await self._session(due + cycle_s)
            except Exception as error:  # noqa: BLE001 - whatever it is, it counts as this session's error
                self.errors[str(error) or type(error).__name__] += 1
            due = max(due + cycle_s, time.perf_counter())
            await asyncio.sleep(due - time.perf_counter())

    async def _session(self, until: float) -> None:
        transport, listener = await ws_connect(SessionListener, self._url, websocket_handshake_timeout=STEP_S)
        assert isinstance(listener, SessionListener)  # noqa: S101 - made by the call before
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        try:
            start = await asyncio.wait_for(listener.started, STEP_S)
            await self._speak(transport)
            await asyncio.sleep(until - time.perf_counter() - SPEECH_S)  # the rest of its time it is silent
            transport.send(WSMsgType.TEXT, b'{"type":"stop"}')
            end = await asyncio.wait_for(listener.ended, STEP_S)
        finally:
            self._open -= 1
            transport.disconnect()
        await self._settle(start["session_id"], end)

    async def _speak(self, transport: WSTransport) -> None:
        started = time.perf_counter()
        for number, frame in enumerate(self._speech):
            await asyncio.sleep(started + number * FRAME_SAMPLES / RATE_HZ - time.perf_counter())
            transport.send(WSMsgType.BINARY, frame)

    async def _settle(self, session_id: str, end: dict[str, Any]) -> None:
        """Check the end; delete every other session, and fetch the rest, which is left to expire."""
        self.done += 1
        if end["transcript"] != self._transcript:
            self.errors["another transcript" if end["transcript"] is not None else "no transcript in time"] += 1
        self._deletes = not self._deletes
        path = f"/v1/sessions/{session_id}"
        if self._deletes:
            answer = await self._http.delete(path)
        else:
            answer = await self._http.get(f"{path}/transcript")
        if answer.is_error:
            self.errors[f"{answer.request.method} {answer.status_code}"] += 1
