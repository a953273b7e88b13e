import errno
import socket

import pytest

from store.network import sockets


def test_an_idle_connection_is_probed_within_minutes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert not client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        sockets.keep_alive(client)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [client.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 15, 4]


def test_a_system_without_these_options_probes_at_its_own_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"):
        monkeypatch.delattr(socket, name)
    with socket.socket() as one:
        sockets.keep_alive(one)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(("host", "takes"), [("::", {"127.0.0.1", "::1"}), ("::1", {"::1"})])
def test_a_socket_on_any_ipv6_address_accepts_ipv4_too(host: str, takes: set[str]) -> None:
    (bound,) = sockets.bound_to_ipv6(host, 0)
    with bound:
        bound.listen()
        port, taken = bound.getsockname()[1], set()
        for address in ("127.0.0.1", "::1"):
            try:
                socket.create_connection((address, port)).close()
            except ConnectionRefusedError:
                continue
            taken.add(address)
        assert taken == takes


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_socket_is_bound_for_other_hosts(host: str) -> None:
    assert sockets.bound_to_ipv6(host, 0) == []


def test_the_error_without_ipv6_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has none only with `ipv6.disable=1` at its start."""
    make = socket.socket

    def refuse(family: int, *how: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *how)

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match=r"IPv6 is switched off .*listen on 0\.0\.0\.0 in place of \[::\]") as caught:
        sockets.bound_to_ipv6("::", 0)
    assert caught.value.errno == errno.EAFNOSUPPORT
