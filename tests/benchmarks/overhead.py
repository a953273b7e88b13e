"""What a request costs through the gateway, beside bare `mitmdump --mode reverse:` in the same run.

    .venv/bin/python tests/benchmarks/overhead.py

Both proxies stand before the same upstream and get the same load, in turn, several times. CPU is what the proxy's
process itself used (/proc/<pid>/stat), latency what a client on a kept-alive connection saw. Full duty on our side:
SQLite, a limited token, counted durably, with a row in the ledger and the usage of a chat completion. Two more are the
gateway with a duty taken out (`less.py`), to see what it costs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.gateway import Gateway, bearer
from support.processes import Process, clean_environment, free_port, python, tool

BODY = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How can I assist you today?", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
    }
).encode()
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(COMPLETION) + COMPLETION
)
WARM_UP = 300
LESS = ("metering", "ledger")


class Upstream(asyncio.Protocol):
    """Answers each request once its body has come, which may be apart from its headers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}") or data.startswith(b"GET"):
            self._transport.write(ANSWER)


@dataclass
class Contestant:
    """A proxy, and its figures at one number of connections, one entry a round."""

    name: str
    pid: int
    port: int
    head: bytes
    cpu_ms: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)

    def measure(self, connections: int, requests: int) -> None:
        """Add one round."""
        before = cpu_seconds(self.pid)
        latencies, seconds = asyncio.run(load(self, connections, requests))
        self.cpu_ms.append((cpu_seconds(self.pid) - before) / len(latencies) * 1000)
        self.p50_ms.append(statistics.median(latencies) * 1000)
        self.p99_ms.append(statistics.quantiles(latencies, n=100)[98] * 1000)
        self.per_second.append(len(latencies) / seconds)

    def medians(self) -> str:
        """Return the figures as cells of the table."""
        figures = (self.cpu_ms, self.p50_ms, self.p99_ms, self.per_second)
        return " ".join(f"{statistics.median(figure):8.2f}" for figure in figures)


async def load(proxy: Contestant, connections: int, requests: int) -> tuple[list[float], float]:
    """Send requests over kept-alive connections; return each one's seconds, and the seconds of all."""
    latencies: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for _ in range(number):
            start = time.perf_counter()
            writer.write(proxy.head + BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            await reader.readexactly(len(COMPLETION))
            latencies.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client(requests // connections) for _ in range(connections)))
    return latencies, time.perf_counter() - start


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def bare_mitmdump(folder: Path, upstream: int) -> Iterator[tuple[int, int]]:
    """Run mitmdump without any addon, quiet; yield its pid and port."""
    port = free_port()
    env = {**clean_environment(), "HOME": str(folder)}
    command = [tool("mitmdump"), "-q", "--mode", f"reverse:http://127.0.0.1:{upstream}@127.0.0.1:{port}"]
    process = Process(command, env=env, log=folder / "bare.log")
    try:
        process.wait_for_port(port)
        yield process.pid, port
    finally:
        process.stop()


def start_without(gateway: Gateway, duty: str) -> None:
    """Start a proxy that lacks a duty, on the gateway's store."""
    port = free_port()
    command = python(str(Path(__file__).with_name("less.py")), duty)
    env = {**gateway.env, "PROXY_LISTEN": f"127.0.0.1:{port}"}
    process = Process(command, env=env, log=gateway.folder / f"without-{duty}.log")
    process.wait_for_port(port)
    gateway.use(process, port)


def head(authorization: str) -> bytes:
    """Return a request's line and headers."""
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode()


def compare(contestants: Sequence[Contestant], connections: int, rounds: int, requests: int) -> None:
    """Measure all in turn and print a table of medians, with the CPU of each against that of the first."""
    for contestant in contestants:
        asyncio.run(load(contestant, connections, WARM_UP))
    for _ in range(rounds):
        for contestant in contestants:
            contestant.measure(connections, requests)
    for contestant in contestants:
        pairs = zip(contestant.cpu_ms, contestants[0].cpu_ms, strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"{connections:>11} {contestant.name:17} {contestant.medians()} {ratio:9.2f}")


def run(folder: Path, rounds: int, requests: int) -> None:
    """Start everything and compare at 1 and at 32 connections."""
    upstream = free_port()
    serving = Process(python(__file__, "--upstream", str(upstream)), env=clean_environment(), log=folder / "up.log")
    serving.wait_for_port(upstream)
    gateway_run = Gateway.start(folder, f"http://127.0.0.1:{upstream}", LOG_LEVEL="warning")
    with bare_mitmdump(folder, upstream) as (bare_pid, bare_port), gateway_run as gateway:
        token = gateway.make_token(max_requests=10**9)
        for duty in LESS:
            start_without(gateway, duty)
        print(f"{'connections':>11} {'':17} {'CPU ms':>8} {'p50 ms':>8} {'p99 ms':>8} {'req/s':>8} {'CPU ratio':>9}")
        for connections in (1, 32):
            bare = Contestant("bare mitmdump", bare_pid, bare_port, head("Bearer none"))
            ours = [
                Contestant(name, proxy.process.pid, proxy.port, head(bearer(token)["Authorization"]))
                for name, proxy in zip(["gateway", *(f"without {duty}" for duty in LESS)], gateway.proxies, strict=True)
            ]
            compare([bare, *ours], connections, rounds, requests)
    serving.kill()


async def serve(port: int) -> None:
    """Be the upstream."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.upstream:
        asyncio.run(serve(arguments.upstream))
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), arguments.rounds, arguments.requests)


if __name__ == "__main__":
    main()
