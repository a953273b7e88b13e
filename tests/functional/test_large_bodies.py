"""Bodies of 300 MB pass whole in either direction and never fill the proxy's memory, even when one side is slow."""

import functools
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients.raw_client import RawClient
from support.gateway.processes import DEADLINE
from support.gateway.relay import Relay
from support.upstreams.upstreams import OK, Conversation

BLOCK = bytes(range(256)) * 4096  # 1 MiB
BLOCKS = 300
MAX_GROWTH = 20 * 2**20
"""Bytes by which the proxy's memory may grow at most; a body in memory would be fifteen times as much."""

CHUNK = b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK)


@functools.cache
def whole() -> str:
    """Return the hash of a body; every worker imports this file, one needs it."""
    return hashlib.sha256(BLOCK * BLOCKS).hexdigest()


class Memory:
    """The memory of a process, in bytes: how far its peak is above where it was."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak becomes the present use (proc(5))
        self._before = self._kilobytes("VmHWM")

    def growth(self) -> int:
        return (self._kilobytes("VmHWM") - self._before) * 1024

    def _kilobytes(self, name: str) -> int:
        fields = (line.split() for line in self._status.read_text().splitlines())
        return next(int(words[1]) for words in fields if words[0] == f"{name}:")


class Gauge:
    """Counts the bytes that went into a socket, and sets `full` when it has been full for half a second."""

    def __init__(self, sock: socket.socket) -> None:
        self.sent = 0
        self.full = threading.Event()
        self._sock = sock

    def send_blocks(self, block: bytes) -> None:
        self._sock.settimeout(0.5)
        for _ in range(BLOCKS):
            rest = memoryview(block)
            while rest:
                try:
                    number = self._sock.send(rest)
                except TimeoutError:
                    self.full.set()
                    self._sock.settimeout(DEADLINE)
                else:
                    self.sent += number
                    rest = rest[number:]


class Sink:
    """An upstream that reads a body of BLOCKS blocks, once it may, and keeps its hash only."""

    def __init__(self) -> None:
        self.may_read = threading.Event()
        self.digest = hashlib.sha256()

    def __call__(self, conversation: Conversation) -> None:
        conversation.read_head()
        start = conversation.received.partition(b"\r\n\r\n")[2]
        self.may_read.wait(DEADLINE)
        self.digest.update(start)
        left = len(BLOCK) * BLOCKS - len(start)
        while left:
            data = conversation.sock.recv(min(left, len(BLOCK)))
            if not data:
                return
            self.digest.update(data)
            left -= len(data)
        conversation.send(OK)


def test_an_upload_to_a_slow_upstream_passes_in_little_memory(relay: Relay) -> None:
    sink = Sink()
    relay.expect(sink)
    memory = Memory(relay.gateway.proxies[0].process.pid)
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("POST /v1/files HTTP/1.1", f"Content-Length: {len(BLOCK) * BLOCKS}"))
        gauge = Gauge(client.sock)
        sender = threading.Thread(target=gauge.send_blocks, args=(BLOCK,))
        sender.start()
        assert gauge.full.wait(DEADLINE)
        assert gauge.sent < MAX_GROWTH
        sink.may_read.set()
        assert client.read_answer()[1] == b"{}"
        sender.join()
    assert sink.digest.hexdigest() == whole()
    assert memory.growth() < MAX_GROWTH


@pytest.mark.parametrize("chunked", [False, True])
def test_a_download_to_a_slow_client_passes_in_little_memory(relay: Relay, chunked: bool) -> None:
    gauges: list[Gauge] = []
    started = threading.Event()

    def send_all(conversation: Conversation) -> None:
        conversation.read_head()
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (len(BLOCK) * BLOCKS)
        conversation.send(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % framing)
        gauges.append(Gauge(conversation.sock))
        started.set()
        gauges[0].send_blocks(CHUNK if chunked else BLOCK)
        if chunked:
            conversation.send(b"0\r\n\r\n")

    relay.expect(send_all)
    memory = Memory(relay.gateway.proxies[0].process.pid)
    digest = hashlib.sha256()
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("GET /v1/files/large/content HTTP/1.1", "Connection: close"))
        client.read_head()
        assert started.wait(DEADLINE)
        assert gauges[0].full.wait(DEADLINE)
        assert gauges[0].sent < MAX_GROWTH
        for data in blocks_of(client, chunked=chunked):
            digest.update(data)
    assert digest.hexdigest() == whole()
    assert memory.growth() < MAX_GROWTH


def blocks_of(client: RawClient, *, chunked: bool) -> Iterator[bytes]:
    if not chunked:
        for _ in range(BLOCKS):
            yield client.read(len(BLOCK))
        return
    while size := int(client.read_line(), 16):
        yield client.read(size)
        assert client.read(2) == b"\r\n"
