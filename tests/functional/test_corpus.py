"""Each answer of the corpus passes unchanged, in all codings and in pieces, and has the row that its file says."""

import itertools
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest
from support.corpus import CASES, CODINGS, Body, Case
from support.gateway.gateway import Gateway
from support.gateway.processes import wait_until
from support.load.mixed_load import rows_of
from support.upstreams.upstreams import Conversation, RawUpstream

SIZES = range(2, 10)
"""Bytes of a piece, beside single bytes: one size for each case. tests/addon/metering has all sizes for each."""
CLIENTS = 4


class Sending(NamedTuple):
    """A way to send an answer: its coding, and the bytes of a piece; 0 for all at once."""

    answer: Body
    coding: str
    piece: int

    @property
    def body(self) -> bytes:
        """The bytes on the wire."""
        return CODINGS[self.coding](self.answer.content)

    def send(self, conversation: Conversation) -> None:
        """Answer a request."""
        body = self.body
        coding = f"Content-Encoding: {self.coding}\r\n" if self.coding else ""
        head = f"Content-Type: {self.answer.content_type}\r\nContent-Length: {len(body)}\r\n{coding}"
        conversation.send(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        for piece in itertools.batched(body, self.piece or len(body)):
            conversation.send(bytes(piece))


class Passed(NamedTuple):
    """The outcome of the sendings of a case: the bodies that the client got, and the rows in the ledger."""

    bodies: Sequence[bytes]
    rows: Sequence[Mapping[str, Any]]


def sendings(case: Case, size: int) -> list[Sending]:
    """Return the ways to send the answers of a case: whole, in single bytes, and in pieces of a size."""
    return [
        Sending(answer, coding, piece)
        for answer in case.answers
        for coding, piece in [*((coding, 0) for coding in CODINGS), ("", 1), ("", size)]
    ]


SENDINGS = [sendings(*each) for each in zip(CASES, itertools.cycle(SIZES), strict=False)]


def answer_as_asked(conversation: Conversation) -> None:
    """Answer each request with the sending that its header names."""
    conversation.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no pieces are joined
    while True:
        head, _ = conversation.read_message()
        asked = re.search(rb"\r\nx-sending: (\d+)/(\d+)", head, re.IGNORECASE)
        assert asked is not None
        SENDINGS[int(asked[1])][int(asked[2])].send(conversation)


def send(gateway: Gateway, number: int) -> tuple[str, list[bytes]]:
    """Ask for all sendings of a case. Returns the token's id, and the bodies as they came."""
    case, token = CASES[number], gateway.make_token()
    headers = {"Authorization": f"Bearer {token['token']}", "Content-Type": case.request.content_type}
    bodies = []
    with httpx.Client(base_url=gateway.url, headers=headers) as client:
        for way in range(len(SENDINGS[number])):
            asked = {"X-Sending": f"{number}/{way}"}
            with client.stream("POST", case.path, content=case.request.content, headers=asked) as response:
                bodies.append(b"".join(response.iter_raw()))
    return token["id"], bodies


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("corpus")
    with (
        RawUpstream(answer_as_asked) as upstream,
        Gateway.start(folder, upstream.url, LOG_LEVEL="warning", PLAIN_PATH=path) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def passed(gateway: Gateway) -> Sequence[Passed]:
    """Send all cases: the ledger is then read once, as its rows come up to a second later."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = list(pool.map(lambda number: send(gateway, number), range(len(CASES))))

    def rows() -> list[dict[str, Any]]:
        return [row for row in rows_of(gateway) if row["duration_ms"] is not None]

    wait_until(lambda: len(rows()) == sum(map(len, SENDINGS)))
    found = rows()
    return [Passed(bodies, [row for row in found if row["token_id"] == token_id]) for token_id, bodies in sent]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number].name)
def test_an_answer_passes_unchanged_and_has_its_row(passed: Sequence[Passed], number: int) -> None:
    (bodies, rows), usage = passed[number], CASES[number].usage
    assert bodies == [sending.body for sending in SENDINGS[number]]
    assert [{name: row[name] for name in usage} for row in rows] == [usage] * len(bodies)
