"""Checks of request smuggling: the upstream sees the requests that a client sent, and no others."""

import asyncio
import contextlib
import functools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.attacks.desync import FOLLOWS, INNOCENT, TOKEN, Case
from support.attacks.desync_http2 import Http2Case
from support.attacks.strict_http import Reading, Request, read_strictly
from support.clients.http2 import Http2Client
from support.clients.raw_client import RawClient
from support.gateway.gateway import PATHS, Gateway
from support.gateway.processes import DEADLINE, wait_until
from support.upstreams.strict_upstream import MARK, StrictUpstream
from support.upstreams.upstreams import KEY

SILENCE = 0.15
"""Seconds without an answer to a request that has not ended."""

VICTIM = "/v1/another/client"
OF_VICTIM = 1
"""Requests of the other client after a case."""

STATUSES = {400, 404, 405, 413, 417, 431, 501}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Target:
    """A gateway before a strict upstream, a token, and another client than the one that sends the cases."""

    def __init__(self, gateway: Gateway, upstream: StrictUpstream, victim: RawClient) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.token = gateway.make_token()
        self.cases = 0
        """The cases that were sent."""
        self._victim = victim
        self._ask = f"GET {VICTIM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token['token']}\r\n\r\n".encode()

    def forget(self) -> None:
        """Forget all requests so far, before the next case."""
        self.cases += 1
        for record in (self.upstream.seen, self.upstream.cut, self.upstream.malformed):
            record.clear()

    def seen(self) -> tuple[list[Request], list[Request]]:
        """Return the requests of a case that the upstream saw, whole and in parts, once none is under way.

        After the case the other client asks: its answer must be its own, whatever connection it takes upstream.
        """
        self._victim.send(self._ask)
        answer = read_answer(self._victim, ())
        assert answer is not None
        assert MARK.lower() in answer.headers
        assert json.loads(answer.body) == {"method": "GET", "target": VICTIM}
        for conversation in self.upstream.conversations:
            wait_until(functools.partial(self.upstream.is_done, conversation))
        (of_victim,) = [request for request in self.upstream.seen if request.target == VICTIM]
        assert of_victim.body == b""
        return [request for request in self.upstream.seen if request is not of_victim], self.upstream.cut

    def count(self) -> int:
        path = self.gateway.data / "llm-proxy.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            count: int
            (count,) = store.execute("SELECT request_count FROM token WHERE id = ?", (self.token["id"],)).fetchone()
        return count


@contextlib.contextmanager
def target(folder: Path, plain_path: str = PATHS[0]) -> Iterator[Target]:
    """Run a gateway before a strict upstream, whose log must hold no secret and no traceback at the end.

    It prints how many requests each path served; those that neither takes for a request are not among them.
    """
    with StrictUpstream() as upstream, Gateway.start(folder, upstream.url, PLAIN_PATH=plain_path) as gateway:
        with RawClient(gateway.port) as victim:
            target = Target(gateway, upstream, victim)
            yield target
        plain, requests = gateway.stop_and_count()
        others = target.cases + 1  # of the other client, and for /health
        print(f"\n{target.cases} cases: {plain - others} of {requests - others} requests took the plain path")
        logs = gateway.logs()
        assert "Traceback" not in logs
        assert target.token["token"] not in logs
        assert KEY not in logs


def check_case(target: Target, case: Case) -> None:
    """Send the bytes of a case, then an innocent request, on one connection."""
    counted = target.count()
    target.forget()
    data = (case.data + FOLLOWS).replace(TOKEN.encode(), target.token["token"].encode())
    reading = read_strictly(data)
    answers, closed = send(target, data, reading)
    seen, cut = target.seen()
    assert target.upstream.malformed == []
    # Large and endless uploads are admitted at their headers, and may end there when their body is malformed.
    spent = target.count() - counted - len(seen) - OF_VICTIM
    assert len(cut) <= spent <= is_endless(not_answered(answers, reading))
    assert [came[:2] for came in cut] in ([], [reading.begun and reading.begun[:2]])
    check_answers(answers, reading, seen)
    check_end(answers, reading, closed)


def check_http2_case(target: Target, case: Http2Case) -> None:
    """Send the request of a case, then an innocent one, on one connection of HTTP/2."""
    counted = target.count()
    target.forget()
    token = target.token["token"]
    headers = [(name, value.replace(TOKEN.encode(), token.encode())) for name, value in case.headers]
    pieces = [piece.replace(TOKEN.encode(), token.encode()) for piece in case.pieces]

    async def main() -> tuple[str | None, str | None]:
        async with Http2Client.connect(target.gateway.port) as client:
            outer = None
            try:
                outer = await client.answer(client.request(headers, *pieces))
                innocent = await client.answer(client.get(INNOCENT, token))
            except ConnectionError:
                # Headers may be refused before the body comes, whose length then ends the connection.
                assert outer is None or MARK.lower() not in outer
                return "closed", None
        return outer.get(MARK.lower(), outer[":status"]) if outer else None, (innocent or {}).get(MARK.lower())

    outer, innocent = asyncio.run(asyncio.wait_for(main(), DEADLINE))
    seen, cut = target.seen()
    assert target.upstream.malformed == []
    assert len(cut) <= target.count() - counted - len(seen) - OF_VICTIM <= bool(pieces)
    expected = [("GET", INNOCENT, b"")] * (innocent is not None)
    if outer == "1":
        fields = dict(headers)
        expected.insert(0, (fields[b":method"].decode(), fields[b":path"].decode(), b"".join(pieces)))
    assert [request[:3] for request in seen] == expected
    assert (innocent is None) == (outer == "closed")


def send(target: Target, data: bytes, reading: Reading) -> tuple[list[Answer], bool]:
    """Send bytes, and read all answers that can be expected; tell whether the proxy closed the connection."""
    answers: list[Answer] = []
    with RawClient(target.gateway.port) as client:
        client.send(data)
        while reading.end != "clean" or len(answers) < len(reading.requests):
            if reading.end == "cut" and len(answers) == len(reading.requests):
                client.sock.settimeout(SILENCE)
            try:
                answer = read_answer(client, reading.requests[len(answers) : len(answers) + 1])
            except TimeoutError:
                if reading.end != "cut":
                    raise
                return answers, False
            if answer is None:
                return answers, True
            if answer.status == 100:
                assert b"HTTP/1.0" not in data
            else:
                answers.append(answer)
    return answers, False


def read_answer(client: RawClient, answered: tuple[Request, ...]) -> Answer | None:
    try:
        head = client.read_head().decode("latin-1")
    except AssertionError:
        return None
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    bodiless = status.split(" ")[1] == "100" or (answered and answered[0].method == "HEAD")
    body = b"" if bodiless else client.read(int(headers["content-length"]))
    return Answer(int(status.split(" ")[1]), headers, body)


def not_answered(answers: list[Answer], reading: Reading) -> Request | None:
    """Return the first request that the upstream did not answer."""
    relayed = [answer for answer in answers if answer.status == 200]
    return [*reading.requests, reading.begun, None][len(relayed)]


def is_endless(request: Request | None) -> bool:
    return request is not None and bool(request.values("transfer-encoding"))


def check_answers(answers: list[Answer], reading: Reading, seen: list[Request]) -> None:
    """Each answer is the upstream's, to the request in its place, or a refusal of the gateway."""
    unanswered = iter(seen)
    for answer, request in zip(answers, [*reading.requests, None], strict=False):
        if MARK.lower() in answer.headers:
            came = next(unanswered)
            assert request is not None
            assert came[:3] == request[:3]
            if request.method != "HEAD":
                assert json.loads(answer.body) == {"method": request.method, "target": request.target}
            assert came.values("authorization") == [f"Bearer {KEY}"]
            assert came.values("expect") == came.values("connection") == []
        elif answer.status != 200:
            assert answer.status in STATUSES
            assert (request is not None and request.method == "HEAD") or json.loads(answer.body)["code"]
        else:
            assert request is not None
            assert request.target == "/health"
        assert KEY not in str(answer)
    assert list(unanswered) == []
    assert len(answers) <= len(reading.requests) + 1


def check_end(answers: list[Answer], reading: Reading, closed: bool) -> None:
    """Bytes that are no request are refused, and nothing is read after them."""
    if reading.end == "fault":
        assert closed
        assert answers[-1].status in STATUSES
    elif reading.end == "closed":
        assert closed
        assert len(answers) <= len(reading.requests)
