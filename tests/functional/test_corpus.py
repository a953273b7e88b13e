"""Each answer of the corpus passes unchanged, in all codings and pieces, and has the row that its file says."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from support.corpus import CASES, CODINGS, Answer, Case
from support.gateway.gateway import Gateway
from support.gateway.processes import wait_until
from support.load.mixed_load import rows_of
from support.upstreams.upstreams import Conversation, RawUpstream

PIECES = range(1, 10)


class Sending(NamedTuple):
    """A way to send an answer: its coding, and the bytes of a piece; 0 for all at once."""

    answer: Answer
    coding: str
    piece: int

    def send(self, conversation: Conversation) -> None:
        """Answer a request."""
        body = CODINGS[self.coding](self.answer.body)
        coding = f"Content-Encoding: {self.coding}\r\n" if self.coding else ""
        head = f"Content-Type: {self.answer.content_type}\r\nContent-Length: {len(body)}\r\n{coding}"
        conversation.send(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        for piece in itertools.batched(body, self.piece or len(body)):
            conversation.send(bytes(piece))


def sendings(case: Case) -> list[Sending]:
    """Return all ways to send the answers of a case."""
    return [
        Sending(answer, coding, piece)
        for answer in case.answers
        for coding, piece in [*((coding, 0) for coding in CODINGS), *(("", size) for size in PIECES)]
    ]


class CorpusUpstream(RawUpstream):
    """Answers as it is told."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.next: Sending | None = None

    def _answer(self, conversation: Conversation) -> None:
        while True:
            conversation.read_message()
            assert self.next is not None
            self.next.send(conversation)


@pytest.fixture(scope="module")
def upstream() -> Iterator[CorpusUpstream]:
    with CorpusUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: CorpusUpstream, path: str) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("corpus")
    with Gateway.start(folder, upstream.url, LOG_LEVEL="warning", PLAIN_PATH=path) as gateway:
        yield gateway


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_answer_passes_unchanged_and_has_its_row(gateway: Gateway, upstream: CorpusUpstream, case: Case) -> None:
    token = gateway.make_token()
    headers = {"Authorization": f"Bearer {token['token']}", "Content-Type": "application/json"}
    with httpx.Client(base_url=gateway.url, headers=headers) as client:
        for sending in sendings(case):
            upstream.next = sending
            with client.stream("POST", case.path, content=case.request) as response:
                assert b"".join(response.iter_raw()) == CODINGS[sending.coding](sending.answer.body)

    def rows() -> list[dict[str, Any]]:
        return [row for row in rows_of(gateway) if row["token_id"] == token["id"]]

    wait_until(lambda: all(row["usage_source"] for row in rows()))
    found = [{name: row[name] for name in case.usage} for row in rows()]
    assert found == [case.usage] * len(sendings(case))
