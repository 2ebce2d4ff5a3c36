"""Many listeners to event streams, in a process of their own: `benchmarks.sse` starts and commands it by lines.

Standard input: one JSON line with `port`, `paths`, `per_second`; then ``reset`` before and ``report`` after the
measured part. Standard output: a JSON line once all have connected, and one for each report.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any

import uvloop

REQUEST = (
    "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n"
    "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\n\r\n"
)
"""About the size of a browser's request."""

FIRST_S = 30.0  # a listener whose stream has not begun by then never will

_MARK = b'"text":"'


class SseClient(asyncio.Protocol):
    """One listener: notes when its stream began, and the age of each event that holds its time."""

    def __init__(self, path: str, ages_ns: list[int]) -> None:
        """Will ask for `path`, and put ages into `ages_ns`."""
        self._path = path
        self._ages_ns = ages_ns
        self._started = time.monotonic()
        self.first_byte_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvloop's transports are none of asyncio's
        """Send the request."""
        transport.write(REQUEST.format(self._path).encode())

    def data_received(self, data: bytes) -> None:
        """Find the times in texts; the benchmark's facts hold nothing else."""
        now_ns = time.monotonic_ns()
        if not self.first_byte_s.done():
            good = data.startswith(b"HTTP/1.1 200")
            self.first_byte_s.set_result(time.monotonic() - self._started if good else float("inf"))
        at = data.find(_MARK)
        while at >= 0:
            end = data.find(b'"', at + len(_MARK))
            self._ages_ns.append(now_ns - int(data[at + len(_MARK) : end]))
            at = data.find(_MARK, end)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Count it as failed, if it hasn't begun."""
        if not self.first_byte_s.done():
            self.first_byte_s.set_result(float("inf"))


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the worst, in ms."""
    ordered = sorted(seconds) or [float("nan")]
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 2)
        for name, part in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99), ("max_ms", 1.0))
    }


async def _arrive(order: dict[str, Any], ages_ns: list[int]) -> list[SseClient]:
    loop = asyncio.get_running_loop()
    clients: list[SseClient] = []
    started = loop.time()

    async def one(path: str) -> None:
        clients.append((await loop.create_connection(lambda: SseClient(path, ages_ns), "127.0.0.1", order["port"]))[1])

    connecting = []
    for number, path in enumerate(order["paths"]):
        await asyncio.sleep(started + number / order["per_second"] - loop.time())
        connecting.append(asyncio.create_task(one(path)))
    await asyncio.gather(*connecting)
    return clients


async def main() -> None:
    """Connect all, then report the ages of their events on command."""
    order = json.loads(await asyncio.to_thread(sys.stdin.readline))
    ages_ns: list[int] = []
    clients = await _arrive(order, ages_ns)
    async with asyncio.timeout(FIRST_S):
        first_byte_s = await asyncio.gather(*(client.first_byte_s for client in clients))
    refused = sum(one == float("inf") for one in first_byte_s)
    good = [one for one in first_byte_s if one != float("inf")]
    gc.freeze()  # thousands of listeners, which no collection need walk over while times are taken
    print(json.dumps({"refused": refused, **percentiles_ms(good)}), flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if line == "report":
            ages = percentiles_ms([age / 1e9 for age in ages_ns])
            print(json.dumps({"heard": len(ages_ns), **ages}), flush=True)
        ages_ns.clear()


if __name__ == "__main__":
    uvloop.run(main())
