"""TCP sockets: listening, and noticing that a peer is gone.

A model may take minutes to answer. NAT gateways, firewalls and load balancers drop a connection that is idle for as
long, and a peer that lost its network sends nothing: keep-alive probes help with both.
"""

import errno
import socket

IDLE, INTERVAL, PROBES = 60, 15, 4
"""Seconds without a byte until a connection is probed, and between probes; the unanswered probes that end it."""

_NO_IPV6 = "IPv6 is switched off on this machine (listen on 0.0.0.0 in place of [::], on 127.0.0.1 in place of [::1])"


def keep_alive(connection: socket.socket) -> None:
    """Let the system probe an idle connection, at its own intervals where these options are missing."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", INTERVAL), ("TCP_KEEPCNT", PROBES)):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def bound(family: int, address: tuple[object, ...], *, joins: bool = False) -> socket.socket:
    """Bind a socket to listen on. `[::]` accepts IPv4 too, on every system. Raises OSError.

    The first socket of a port shares it with no other, so that it fails where the port is taken; those that `joins` do.
    """
    made = _made(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if joins:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        made.close()
        raise
    return made


def bound_to_ipv6(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for a process that opens its port by itself, where its library would accept IPv6 alone.

    Returns none where `host` is no IPv6 address. Raises OSError.
    """
    return [bound(socket.AF_INET6, (host, port))] if ":" in host else []


def _made(family: int) -> socket.socket:
    try:
        return socket.socket(
            family, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # without the protocol asyncio leaves Nagle on
    except OSError as error:
        if family == socket.AF_INET6 and error.errno == errno.EAFNOSUPPORT:
            raise OSError(error.errno, _NO_IPV6) from error
        raise
