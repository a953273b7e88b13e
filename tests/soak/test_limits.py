"""Looks for a counter-example to the limits, through several proxies: too many requests in an interval, by the ledger's
own times, or at the upstream at once; a request that is refused without need; a slot that does not come back.

`./run.sh soak -s tests/soak/test_limits.py` prints the figures. LIMITED_REQUESTS=100000 sends more.
"""

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.gateway.gateway import Gateway
from support.gateway.processes import wait_until
from support.stores.limits import used
from support.upstreams.async_upstream import AsyncUpstream

from store.database.models import Request
from store.limits.window import PERIODS

pytestmark = [pytest.mark.soak("store/admission", "store/limits", "addon/plain"), pytest.mark.timeout(3_600)]

REQUESTS = int(os.environ.get("LIMITED_REQUESTS", "20000"))
CLIENTS = 64
SEED = 23
BACK_AFTER = 45
"""Seconds after which no slot of a dead process is taken any more."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Upstream(AsyncUpstream):
    """Answers at once or after a moment, and counts the requests that it has at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.most = 0
        self.requests = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self.now += 1
                self.most = max(self.most, self.now)
                try:
                    if b"/slow" in head:
                        await asyncio.sleep(random.random() * 0.02)  # noqa: S311 - no secret
                finally:
                    self.now -= 1
                writer.write(HEAD)
        writer.close()


class Answer(NamedTuple):
    """A status, and the milliseconds after which a refused client may come again."""

    status: int
    retry_after_ms: int = 0


class Client:
    """A client with a connection to each proxy that it uses."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._wires: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def get(self, port: int, path: str = "/v1/models") -> Answer | None:
        """Return the answer; None where the proxy hangs up."""
        try:
            if port not in self._wires:
                self._wires[port] = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = self._wires[port]
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(fields["content-length"]))
            return Answer(int(head.split(" ")[1]), int(fields.get("retry-after-ms", 0)))
        except (OSError, asyncio.IncompleteReadError):
            self.hang_up(port)
            return None

    def hang_up(self, port: int) -> None:
        wire = self._wires.pop(port, None)
        if wire is not None:
            wire[1].transport.abort()

    def close(self) -> None:
        for port in [*self._wires]:
            self.hang_up(port)


@contextlib.asynccontextmanager
async def running(folder: Path, database_url: str, upstream: Upstream) -> AsyncIterator[Gateway]:
    async with upstream.serve():
        with contextlib.ExitStack() as stack:
            start = Gateway.start(
                folder, upstream.url, proxies=4, database_url=database_url, LOG_LEVEL="warning", WORKERS="1"
            )
            yield await asyncio.to_thread(stack.enter_context, start)
            await asyncio.to_thread(stack.close)


def ports(gateway: Gateway) -> list[int]:
    return [proxy.port for proxy in gateway.proxies if proxy.process.is_running()]


def set_limits(gateway: Gateway, what: str, owner_id: str, **limits: object) -> None:
    gateway.manage("PATCH", f"/manage/{what}/{owner_id}", limits).raise_for_status()


def windows(**maxima: int) -> list[dict[str, object]]:
    return [{"requests": maximum, "per": period} for period, maximum in maxima.items()]


class Phase(NamedTuple):
    """A limit, from when it may have been in force (microseconds) until it was not any more."""

    maximum: int
    start: int
    end: int


class Timeline:
    """The limits that were set, one after the other."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def set(self, gateway: Gateway, token_id: str, maximum: int) -> None:
        """Set the limit of a second; the one before it holds until this is answered."""
        sent = time.time_ns() // 1000
        set_limits(gateway, "tokens", token_id, rate_limits=windows(second=maximum, minute=MINUTE))
        answered = time.time_ns() // 1000
        if self.phases:
            self.phases[-1] = self.phases[-1]._replace(end=answered)
        self.phases.append(Phase(maximum, sent, 2**62))

    def most_at(self, moment: int) -> int:
        """Return the highest limit that may have been in force at a time."""
        return max(phase.maximum for phase in self.phases if phase.start <= moment <= phase.end)


SECONDS, MINUTE, OF_PROJECT = (60, 150), 4_000, 180


def counter_examples(times: Sequence[int], length: int, most_at: Any) -> list[tuple[int, int]]:
    """Return pairs of times of which the later one was admitted too early."""
    found = []
    for place, moment in enumerate(times):
        first = place - most_at(moment)
        if first >= 0 and moment - times[first] < length:
            found.append((times[first], moment))
    return found


def admitted_at(gateway: Gateway, **ids: str) -> list[int]:
    with gateway.store() as store, store.database.read():
        query = Request.select(Request.started_at).where(
            *[getattr(Request, name) == value for name, value in ids.items()]
        )
        return sorted(row.started_at for row in query)


def test_no_interval_has_more_requests_than_the_limit(tmp_path: Path, database_url: str) -> None:
    chance, timeline, answers = random.Random(SEED), Timeline(), Counter[int]()  # noqa: S311 - no secret

    async def use(gateway: Gateway, token: str) -> None:
        client = Client(token)
        while answers.total() < REQUESTS:
            answer = await client.get(chance.choice(ports(gateway)))
            answers[answer.status if answer else 0] += 1
            if answer and answer.status == 429 and chance.random() < 0.5:
                await asyncio.sleep(min(answer.retry_after_ms / 1000, 0.3))
        client.close()

    async def operate(gateway: Gateway, token_id: str) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(3)
            if answers.total() >= REQUESTS:
                return
            await asyncio.to_thread(timeline.set, gateway, token_id, SECONDS[number % 2])
            if number % 4 == 0:
                victim = chance.choice([proxy for proxy in gateway.proxies if proxy.process.is_running()])
                await asyncio.to_thread(victim.process.kill)
                await asyncio.to_thread(gateway.start_proxy)

    async def main() -> None:
        upstream = Upstream()
        async with running(tmp_path, database_url, upstream) as gateway:
            one = await asyncio.to_thread(gateway.make_token)
            other = await asyncio.to_thread(gateway.make_token, one["project_id"])
            set_limits(gateway, "projects", one["project_id"], rate_limits=windows(second=OF_PROJECT))
            timeline.set(gateway, one["id"], SECONDS[0])
            tokens = [one["token"]] * (CLIENTS * 3 // 4) + [other["token"]] * (CLIENTS // 4)
            await asyncio.gather(*[use(gateway, token) for token in tokens], operate(gateway, one["id"]))
            mine = admitted_at(gateway, token_id=one["id"])
            all_of_them = admitted_at(gateway, project_id=one["project_id"])
            print(f"\n{dict(answers)}; {len(mine)} of {len(all_of_them)} admitted; {len(timeline.phases)} PATCHes")
            assert counter_examples(mine, PERIODS["second"], timeline.most_at) == []
            assert counter_examples(mine, PERIODS["minute"], lambda _: MINUTE) == []
            assert counter_examples(all_of_them, PERIODS["second"], lambda _: OF_PROJECT) == []
            assert answers[429] > 100
            assert {*answers} <= {200, 429, 0}

    asyncio.run(main())


def test_a_client_at_95_per_cent_of_a_limit_is_never_refused(tmp_path: Path, database_url: str) -> None:
    rate = 40

    async def main() -> None:
        async with running(tmp_path, database_url, Upstream()) as gateway:
            token = await asyncio.to_thread(gateway.make_token)
            set_limits(gateway, "tokens", token["id"], rate_limits=windows(second=rate))
            client, loop, answers = Client(token["token"]), asyncio.get_running_loop(), Counter[int]()
            await client.get(ports(gateway)[0])
            await asyncio.sleep(2)
            start = loop.time()
            for number in range(1_000):
                await asyncio.sleep(max(0.0, start + number / rate / 0.95 - loop.time()))
                answer = await client.get(ports(gateway)[number % 4])
                answers[answer.status if answer else 0] += 1
            client.close()
            # A request that the machine delays comes close to the next one: the store's own times tell.
            times = admitted_at(gateway, token_id=token["id"])[1:]
            steps = [later - earlier for earlier, later in itertools.pairwise(times)]
            print(f"\n{dict(answers)}; shortest step {min(steps)} us")
            assert answers[200] >= 990
            if min(steps) >= 1_000_000 / rate:
                assert {*answers} == {200}

    asyncio.run(main())


def test_one_after_the_other_is_never_refused_and_never_two_at_once(tmp_path: Path, database_url: str) -> None:
    async def main() -> None:
        upstream = Upstream()
        async with running(tmp_path, database_url, upstream) as gateway:
            token = await asyncio.to_thread(gateway.make_token)
            set_limits(gateway, "tokens", token["id"], max_parallel_requests=1)
            client, answers, started = Client(token["token"]), Counter[int](), time.monotonic()
            for number in range(REQUESTS // 2):
                answer = await client.get(ports(gateway)[number % 4])
                answers[answer.status if answer else 0] += 1
            client.close()
            print(f"\n{dict(answers)} in {time.monotonic() - started:.0f} s; {upstream.most} at once")
            assert {*answers} == {200}
            assert upstream.most == 1

    asyncio.run(main())


def test_never_more_at_the_upstream_at_once_than_the_limit(tmp_path: Path, database_url: str) -> None:
    most = 5

    async def use(gateway: Gateway, token: str, answers: Counter[int]) -> None:
        client, chance = Client(token), random.Random(token)  # noqa: S311 - no secret
        while answers.total() < REQUESTS // 4:
            answer = await client.get(chance.choice(ports(gateway)), "/v1/models/slow")
            answers[answer.status if answer else 0] += 1
        client.close()

    async def main() -> None:
        upstream, answers = Upstream(), Counter[int]()
        async with running(tmp_path, database_url, upstream) as gateway:
            one = await asyncio.to_thread(gateway.make_token)
            other = await asyncio.to_thread(gateway.make_token, one["project_id"])
            set_limits(gateway, "projects", one["project_id"], max_parallel_requests=most)
            tokens = [one["token"], other["token"]] * (CLIENTS // 4)
            await asyncio.gather(*[use(gateway, token, answers) for token in tokens])
            print(f"\n{dict(answers)}; {upstream.most} at once")
            assert upstream.most == most
            assert {*answers} == {200, 429}
            assert answers[200] == upstream.requests

    asyncio.run(main())


def held(gateway: Gateway, owner_id: str) -> int:
    with gateway.store() as store:
        return used(store, owner_id)["parallel"]


def test_no_slot_is_taken_for_ever(tmp_path: Path, database_url: str) -> None:
    async def use(gateway: Gateway, token: str, answers: Counter[int], chance: random.Random) -> None:
        client = Client(token)
        while answers.total() < REQUESTS // 2:
            living = ports(gateway)
            port = chance.choice(living)
            asked = asyncio.create_task(client.get(port, chance.choice(["/v1/models", "/v1/models/slow"])))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.03)
                client.hang_up(port)
            answer = await asked
            answers[answer.status if answer else 0] += 1
        client.close()

    async def kill(gateway: Gateway, answers: Counter[int], chance: random.Random) -> None:
        while answers.total() < REQUESTS // 2:
            await asyncio.sleep(chance.uniform(3, 8))
            victim = chance.choice([proxy for proxy in gateway.proxies if proxy.process.is_running()])
            await asyncio.to_thread(victim.process.kill)
            await asyncio.to_thread(gateway.start_proxy)

    async def main() -> None:
        upstream, answers, chance = Upstream(), Counter[int](), random.Random(SEED)  # noqa: S311 - no secret
        async with running(tmp_path, database_url, upstream) as gateway:
            token = await asyncio.to_thread(gateway.make_token)
            set_limits(gateway, "tokens", token["id"], max_parallel_requests=20)
            set_limits(gateway, "projects", token["project_id"], max_parallel_requests=30)
            uses = [use(gateway, token["token"], answers, chance) for _ in range(CLIENTS // 2)]
            await asyncio.gather(*uses, kill(gateway, answers, chance))
            for proxy in gateway.proxies:
                if proxy.process.is_running():
                    proxy.process.kill()
            await asyncio.to_thread(gateway.start_proxy)
            ended = time.monotonic()
            owners = (token["id"], token["project_id"])
            await asyncio.to_thread(wait_until, lambda: not any(held(gateway, owner) for owner in owners), BACK_AFTER)
            print(f"\n{dict(answers)}; all slots are back {time.monotonic() - ended:.0f} s after the last kill")

    asyncio.run(main())
