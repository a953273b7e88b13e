import contextlib
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from support.gateway.processes import free_port

from manage_api.cli.supervision.ports import Sockets, open_port
from store.errors import StartupError
from store.runtime.settings import Listen

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def opened(port: int, shares: int = 1) -> Iterator[list[Sockets]]:
    sockets = open_port("PROXY_LISTEN", Listen(LOOPBACK, port), shares)
    with contextlib.ExitStack() as stack:
        for one in (one for share in sockets for one in share):
            stack.enter_context(one)
        yield sockets


@pytest.mark.parametrize("shares", [1, 3])
def test_a_port_in_use_is_named(shares: int) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"PROXY_LISTEN=127\.0\.0\.1:{port}: Address already in use"):
            open_port("PROXY_LISTEN", Listen(LOOPBACK, port), shares)
    with opened(port, shares):
        pass


@pytest.mark.parametrize("shares", [1, 3])
def test_a_port_is_not_shared_with_another_start(shares: int) -> None:
    port = free_port()
    with opened(port, 3), pytest.raises(StartupError, match="Address already in use"):
        open_port("PROXY_LISTEN", Listen(LOOPBACK, port), shares)


@pytest.mark.parametrize("address", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machines_is_named(address: str) -> None:
    with pytest.raises(StartupError, match=f"MANAGE_LISTEN={address}:8081"):
        open_port("MANAGE_LISTEN", Listen(address, 8081))


def test_connections_spread_over_the_shares() -> None:
    with opened(free_port(), 3) as shares, contextlib.ExitStack() as stack:
        address = shares[0][0].getsockname()
        for _ in range(150):
            stack.enter_context(socket.create_connection(address))
        taken = Counter[int]()
        for number, (one,) in enumerate(shares):
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stack.enter_context(one.accept()[0])
                    taken[number] += 1
    assert sum(taken.values()) == 150
    assert min(taken.values()) >= 20, taken


def test_each_address_of_a_name_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with opened(port, 2) as shares:
        assert [[one.getsockname()[0] for one in share] for share in shares] == [["127.0.0.1", "127.0.0.2"]] * 2


def connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("shares", [1, 2])
@pytest.mark.parametrize(("host", "takes_ipv4"), [("::", True), ("::1", False)])
def test_the_ipv6_any_address_accepts_ipv4_too(host: str, takes_ipv4: bool, shares: int) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        for one in (one for share in open_port("PROXY_LISTEN", Listen(host, port), shares) for one in share):
            stack.enter_context(one)
        assert (connects("::1", port), connects(LOOPBACK, port)) == (True, takes_ipv4)


def test_an_ipv4_port_in_use_is_not_taken_over_ipv6() -> None:
    message = r"PROXY_LISTEN=\[::\]:\d+: Address already in use"
    with socket.create_server(("", 0)) as taken, pytest.raises(StartupError, match=message):
        open_port("PROXY_LISTEN", Listen("::", taken.getsockname()[1]))


def test_early_connections_wait_in_the_queue() -> None:
    with opened(free_port()) as ((one,),), socket.create_connection(one.getsockname()) as client:
        client.sendall(b"early")
        accepted, _ = one.accept()
        with accepted:
            assert accepted.recv(100) == b"early"
            assert accepted.proto == socket.IPPROTO_TCP  # or asyncio would leave Nagle's algorithm on
