"""Looks for a counter-example to budgets, through several proxies: more settled and reserved than a budget has, a sum
that is not that of the ledger's rows, an amount that stays reserved.

`./run.sh soak -s tests/soak/test_budgets.py` prints the figures. BUDGETED_REQUESTS=5000 sends fewer.
"""

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.gateway.gateway import Gateway
from support.gateway.processes import wait_until
from support.stores.limits import balances, differences, standing
from support.upstreams.async_upstream import AsyncUpstream

pytestmark = [
    pytest.mark.soak("store/admission", "store/limits", "store/ledger", "addon/demand", "addon/metering"),
    pytest.mark.timeout(7_200),
]

REQUESTS = int(os.environ.get("BUDGETED_REQUESTS", "100000"))
CLIENTS = 48
SEED = 25
BACK_AFTER = 45
"""Seconds after which nothing is reserved for a dead process any more."""

FIXED, CHANGING = "fixed-price", "changing-price"
"""Models whose prices stay, or do not."""

INPUT, OUTPUT = 1, 4
"""USD for a million tokens."""

WAYS = ["plain"] * 6 + ["slow", "silent", "cut", "error", "rejected"]

HEAD = "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Upstream(AsyncUpstream):
    """Answers as the prompt says: with a usage, without one, in a stream, slowly, with an error, or by hanging up."""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                await self._answer(json.loads(await reader.readexactly(length)), writer)
                await writer.drain()
                if writer.is_closing():
                    return
        writer.close()

    async def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        way = asked["messages"][0]["content"].partition(" ")[0]
        most = asked.get("max_tokens", 20)
        usage = {"prompt_tokens": 8, "completion_tokens": random.randint(0, most)}  # noqa: S311 - no secret
        usage["total_tokens"] = sum(usage.values())
        if way == "slow":
            await asyncio.sleep(random.random() * 0.3)  # noqa: S311
        if way == "cut":
            writer.close()
        elif way in {"error", "rejected"}:
            _send(writer, 500 if way == "error" else 401, {"error": {"message": "no", "code": "no"}})
        elif asked.get("stream"):
            await self._stream(writer, asked["model"], usage)
        else:
            told = {} if way == "silent" else {"usage": usage}
            _send(writer, 200, {"id": "c", "object": "chat.completion", "model": asked["model"], "choices": [], **told})

    async def _stream(self, writer: asyncio.StreamWriter, model: str, usage: dict[str, int]) -> None:
        writer.write(CHUNKED)
        begun = {"id": "c", "object": "chat.completion.chunk", "model": model}
        for _ in range(usage["completion_tokens"]):
            _chunk(writer, {**begun, "choices": [{"index": 0, "delta": {"content": "a "}}]})
            await asyncio.sleep(0.002)
        _chunk(writer, {**begun, "choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def _send(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    text = json.dumps(body)
    writer.write(f"{HEAD.format(status=status, kind='application/json', length=len(text))}{text}".encode())


def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    data = f"data: {json.dumps(event)}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def post(port: int, token: str, body: dict[str, Any], *, hang_up_after: float | None) -> int:
    """Return the status of the answer; 0 where there is none, or the client hangs up first."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0
    text = json.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    try:
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        answer = await asyncio.wait_for(reader.read(), hang_up_after)
        return int(answer.split(b" ", 2)[1]) if answer else 0
    except (OSError, TimeoutError, IndexError):
        return 0
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def running(folder: Path, database_url: str) -> AsyncIterator[Gateway]:
    upstream = Upstream()
    async with upstream.serve():
        with contextlib.ExitStack() as stack:
            start = Gateway.start(
                folder, upstream.url, proxies=4, database_url=database_url, LOG_LEVEL="warning", WORKERS="1"
            )
            yield await asyncio.to_thread(stack.enter_context, start)
            await asyncio.to_thread(stack.close)


def total(usd: str) -> dict[str, Any]:
    return {"budgets": [{"usd": usd, "per": "total"}]}


def patch(gateway: Gateway, what: str, owner_id: str, **changes: object) -> None:
    answer = gateway.manage("PATCH", f"/manage/{what}/{owner_id}", changes)
    if answer.status_code != 503:  # of a store that is busy: what the PATCH set may be in force
        answer.raise_for_status()


def set_price(gateway: Gateway, model: str, factor: int) -> None:
    rates = {"input": INPUT * factor, "output": OUTPUT * factor}
    gateway.manage("PUT", "/manage/prices", {"model": model, "rates": rates}).raise_for_status()


def read(gateway: Gateway, owner_id: str) -> tuple[int, int]:
    with gateway.store() as store:
        return standing(store, owner_id, "usd/total")


def is_free(gateway: Gateway, owner_ids: Sequence[str]) -> bool:
    with gateway.store() as store:
        found = [one for owner_id in owner_ids for one in balances(store, owner_id).values()]
    return not any(one.state is not None and one.state.reserved for one in found)


class Run:
    """Clients of a budget that stays, clients of budgets that change, and of one that is deleted with its project."""

    def __init__(self, gateway: Gateway, maximum: str) -> None:
        self.answers = Counter[int]()
        self.seen: list[tuple[int, int]] = []
        """The sums of what was settled and reserved of the budget that stays, from time to time."""
        self._gateway = gateway
        self._chance = random.Random(SEED)  # noqa: S311 - no secret
        self.fixed, self.doomed, first = (gateway.make_token() for _ in range(3))
        self.tokens = [first, *[gateway.make_token(first["project_id"]) for _ in range(2)]]
        for model in (FIXED, CHANGING):
            set_price(gateway, model, 1)
        patch(gateway, "projects", self.fixed["project_id"], **total(maximum))
        patch(gateway, "projects", self.doomed["project_id"], **total("1000"))

    @property
    def owners(self) -> Sequence[str]:
        return [self.fixed["project_id"], self.tokens[0]["project_id"], *(token["id"] for token in self.tokens)]

    @property
    def is_over(self) -> bool:
        return self.answers.total() >= REQUESTS

    async def run(self) -> None:
        uses = [self._use(self.fixed["token"], FIXED) for _ in range(CLIENTS // 2)]
        uses += [self._use(each["token"], CHANGING) for each in self.tokens for _ in range(CLIENTS // 8)]
        uses += [self._use(self.doomed["token"], FIXED) for _ in range(CLIENTS // 8)]
        await asyncio.gather(*uses, self._watch(), self._change(), self._kill(), self._delete())

    async def _use(self, token: str, model: str) -> None:
        while not self.is_over:
            port = self._chance.choice([proxy.port for proxy in self._gateway.proxies if proxy.process.is_running()])
            hang_up_after = self._chance.random() * 0.1 if self._chance.random() < 0.15 else None
            self.answers[await post(port, token, self._body(model), hang_up_after=hang_up_after)] += 1

    def _body(self, model: str) -> dict[str, Any]:
        chance = self._chance
        content = f"{chance.choice(WAYS)} {'word ' * chance.randrange(20)}"
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
        if chance.random() < 0.3:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if model == FIXED or chance.random() < 0.7:
            body["max_tokens"] = chance.randint(1, 20)
        return body

    async def _watch(self) -> None:
        while not self.is_over:
            self.seen.append(await asyncio.to_thread(read, self._gateway, self.fixed["project_id"]))
            await asyncio.sleep(0.2)

    async def _change(self) -> None:
        rounds = 0
        while not self.is_over:
            await asyncio.sleep(self._chance.random())
            await self._change_budgets()
            rounds += 1
            if rounds % 3 == 0:
                await asyncio.to_thread(set_price, self._gateway, CHANGING, self._chance.randint(1, 9))
            if rounds % 5 == 0:
                windows = self._chance.choice(
                    [None, [{"tokens": self._chance.choice([2_000, 10**6]), "per": "minute"}]]
                )
                await self._patch("tokens", self.tokens[0]["id"], rate_limits=windows)
            if rounds % 7 == 0:
                await self._patch("tokens", self.tokens[1]["id"], is_active=rounds % 2 == 0)

    async def _change_budgets(self) -> None:
        chance = self._chance
        changes: dict[str, Any] = total(chance.choice(["0.01", "0.5", "1000"]))
        if chance.random() < 0.2:
            changes = {"budgets": None}
        elif chance.random() < 0.5:
            changes["budgets"].append({"usd": chance.choice(["0.02", "100"]), "per": "day"})
        owners = [("projects", self.tokens[0]["project_id"]), *(("tokens", token["id"]) for token in self.tokens)]
        await self._patch(*chance.choice(owners), **changes)

    async def _patch(self, what: str, owner_id: str, **changes: object) -> None:
        await asyncio.to_thread(patch, self._gateway, what, owner_id, **changes)

    async def _kill(self) -> None:
        while not self.is_over:
            await asyncio.sleep(self._chance.uniform(3, 8))
            victim = self._chance.choice([proxy for proxy in self._gateway.proxies if proxy.process.is_running()])
            await asyncio.to_thread(victim.process.kill)
            await asyncio.to_thread(self._gateway.start_proxy)

    async def _delete(self) -> None:
        while self.answers.total() < REQUESTS // 2:
            await asyncio.sleep(0.1)
        await asyncio.to_thread(self._gateway.manage, "DELETE", f"/manage/projects/{self.doomed['project_id']}")


def test_budgets_hold_and_are_the_sums_of_their_rows(tmp_path: Path, database_url: str) -> None:
    maximum = Decimal(REQUESTS) / 200_000
    """USD: about a third of what the clients of the budget that stays would spend."""

    async def main() -> None:
        async with running(tmp_path, database_url) as gateway:
            started = time.monotonic()
            run = await asyncio.to_thread(Run, gateway, str(maximum))
            await run.run()
            await asyncio.to_thread(wait_until, lambda: is_free(gateway, run.owners), BACK_AFTER)
            settled, _ = read(gateway, run.fixed["project_id"])
            highest = max(map(sum, run.seen))
            print(
                f"\n{dict(run.answers)} in {time.monotonic() - started:.0f} s; of {maximum * 10**12:f} are settled"
                f" {settled}, at most settled and reserved {highest} in {len(run.seen)} looks"
            )
            assert settled <= maximum * 10**12
            assert highest <= maximum * 10**12
            with gateway.store() as store:
                assert differences(store) == []
            assert run.answers[200] > REQUESTS // 10
            assert run.answers[429] > 0

    asyncio.run(main())
