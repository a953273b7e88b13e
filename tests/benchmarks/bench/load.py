"""The load generator: many clients in one process, each on a raw connection, and their figures.

Plain protocols, no streams and no HTTP library: it shares the machine with the programs that it measures.
"""

import asyncio
import itertools
import math
import re
import statistics
import time
from array import array
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.bench.figures import Round
from benchmarks.bench.machine import cpu_seconds

HOST = "127.0.0.1"
PATIENCE = 60.0
"""Seconds beyond its own that a load may take."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SENT = re.compile(rb'"sent": ?(\d+)')
_NS = 1_000_000_000


class Ask(NamedTuple):
    """A request. Its client may hang up after the first event of the response."""

    data: bytes
    hangs_up: bool = False


class Job(NamedTuple):
    """Requests and their destination. Each connection sends them in turn, and begins with another one.

    `kept`: one connection for all requests of a client; otherwise one for each, and opening it is part of its latency.
    `apart`: seconds between the starts of two clients.
    """

    port: int
    asks: Sequence[Ask]
    connections: int
    kept: bool = True
    apart: float = 0
    statuses: frozenset[int] = frozenset({200})
    """The statuses that are no fault."""


class Answer:
    """A response as it comes: its status, and the timestamps of its events."""

    def __init__(self) -> None:
        self.status = 0
        self._received = b""
        self._position = 0  # of unread data
        self._end: int | None = None
        self._text = b""  # of events, in part

    def feed(self, data: bytes) -> bool:
        """Read more bytes; return True at the end of the response."""
        self._received += data
        if self.status == 0 and not self._read_head():
            return False
        if self._end is not None:
            return len(self._received) >= self._end
        return self._read_chunks()

    def stamps(self) -> list[int]:
        """Return the times at which the events were sent that have come since the last call."""
        whole, mark, self._text = self._text.rpartition(b"\n\n")
        return [int(stamp) for stamp in _SENT.findall(whole)] if mark else []

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.status = int(self._received[9:12])
        self._position = end + 4
        length = _LENGTH.search(self._received, 0, end + 2)
        if length is not None:
            self._end = self._position + int(length[1])
        return True

    def _read_chunks(self) -> bool:
        while (line := self._received.find(b"\r\n", self._position)) >= 0:
            size = int(self._received[self._position : line], 16)
            end = line + 2 + size
            if len(self._received) < end + 2:
                return False
            self._text += self._received[line + 2 : end]
            self._position = end + 2
            if size == 0:
                return True
        return False


class Tally:
    """The latencies that all clients saw, in nanoseconds: of each response, and of first and of further events."""

    def __init__(self) -> None:
        self.latencies, self.first, self.further = array("q"), array("q"), array("q")

    def round(self) -> Round:
        """Return percentiles, in milliseconds."""
        found = percentiles("", self.latencies)
        for name, times in (("first_", self.first), ("further_", self.further)):
            if times:
                found |= percentiles(name, times)
        return found


def percentiles(name: str, times: Sequence[int]) -> Round:
    """Return the median and the 99th percentile of nanoseconds, in milliseconds. Raises ValueError without any."""
    if not times:
        raise ValueError("nothing was answered in time")
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else [times[0]] * 99
    return {f"{name}p50_ms": cuts[49] / 1e6, f"{name}p99_ms": cuts[98] / 1e6}


class Crowd:
    """All clients of a job, until they have sent so many requests or `stop` is called."""

    def __init__(self, job: Job, requests: float = math.inf) -> None:
        self.job = job
        self.tally = Tally()
        self.answered = 0
        self.warm = asyncio.Event()
        """Set when each of the clients has had an answer."""
        self._cold = set(range(job.connections))
        self._left = requests

    def take(self) -> bool:
        """Return True if a client is to send another request."""
        self._left -= 1
        return self._left >= 0

    def stop(self) -> None:
        """Send no more requests; those under way come to their end."""
        self._left = 0

    def count(self, number: int, status: int) -> None:
        """Note the end of a client's answer, or of its interest in it. Raises RuntimeError at a faulty status."""
        if status not in self.job.statuses:
            raise RuntimeError(f"answered with status {status}")
        self.answered += 1
        if self._cold:
            self._cold.discard(number)
            if not self._cold:
                self.warm.set()

    async def be_client(self, number: int) -> None:
        """Run one of the clients."""
        loop = asyncio.get_running_loop()
        asks = itertools.cycle(self.job.asks)
        for _ in range(number % len(self.job.asks)):
            next(asks)
        await asyncio.sleep(number * self.job.apart)
        while self.take():
            client = _Client(self, number, asks)
            await loop.create_connection(lambda client=client: client, HOST, self.job.port)  # type: ignore[misc]
            await client.ended


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, crowd: Crowd, number: int, asks: Iterator[Ask]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._crowd = crowd
        self._number = number
        self._asks = asks
        self._began = time.monotonic_ns()
        self._seen = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        try:
            is_whole = self._answer.feed(data)
            self._note_events(now)
            if is_whole or (self._seen and self._ask.hangs_up):
                self._end(now)
        except Exception as error:
            self._close(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._close(error or ConnectionError("the proxy hung up"))

    def _send(self) -> None:
        self._ask = next(self._asks)
        self._answer = Answer()
        self._seen = 0
        self._transport.write(self._ask.data)

    def _note_events(self, now: int) -> None:
        for stamp in self._answer.stamps():
            if self._seen:
                self._crowd.tally.further.append(now - stamp)
            else:
                self._crowd.tally.first.append(now - self._began)
            self._seen += 1

    def _end(self, now: int) -> None:
        self._crowd.tally.latencies.append(now - self._began)
        self._crowd.count(self._number, self._answer.status)
        if self._crowd.job.kept and not self._ask.hangs_up and self._crowd.take():
            self._began = now
            self._send()
        else:
            self._close(None)

    def _close(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        self._transport.close()
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


def measure(job: Job, seconds: float, proxy: Sequence[int], upstream: int) -> Round:
    """Send requests for so long, once each connection is warm, and return the figures of that time.

    They are requests a second, percentiles of latencies, the proxy's milliseconds of CPU for a request (for a stream's
    event, microseconds), and the shares of a core that the load generator and the upstream used. Raises the first error
    of any request.
    """
    return _run(_measure(job, seconds, {"proxy": proxy, "upstream": [upstream]}))


async def _measure(job: Job, seconds: float, watched: Mapping[str, Sequence[int]]) -> Round:
    crowd = Crowd(job)
    async with asyncio.timeout(seconds + PATIENCE), asyncio.TaskGroup() as group:
        for number in range(job.connections):
            group.create_task(crowd.be_client(number))
        await crowd.warm.wait()
        crowd.tally = tally = Tally()
        start, before = time.monotonic_ns(), _used(watched)
        await asyncio.sleep(seconds)
        crowd.tally = Tally()
        lasted, after = (time.monotonic_ns() - start) / _NS, _used(watched)
        crowd.stop()
    used = {name: after[name] - before[name] for name in after}
    events = len(tally.first) + len(tally.further)
    return tally.round() | {
        "per_second": len(tally.latencies) / lasted,
        "cpu_ms": 1000 * used["proxy"] / len(tally.latencies),
        **({"event_cpu_us": 1e6 * used["proxy"] / events} if events else {}),
        "load": used["load"] / lasted,
        "upstream": used["upstream"] / lasted,
    }


def _used(watched: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {"load": time.process_time(), **{name: sum(map(cpu_seconds, pids)) for name, pids in watched.items()}}


def send(job: Job, requests: int, seconds: float = PATIENCE) -> int:
    """Send so many requests, but for no longer than `seconds`; return how many had an answer."""
    return _run(_send(job, requests, seconds))


async def _send(job: Job, requests: int, seconds: float) -> int:
    crowd = Crowd(job, requests)
    async with asyncio.timeout(seconds + PATIENCE), asyncio.TaskGroup() as group:
        timer = asyncio.get_running_loop().call_later(seconds, crowd.stop)
        for number in range(job.connections):
            group.create_task(crowd.be_client(number))
    timer.cancel()
    return crowd.answered


def _run[Result](main: Coroutine[None, None, Result]) -> Result:
    """Run it; of the errors of many clients raise the first alone."""
    try:
        return asyncio.run(main)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
