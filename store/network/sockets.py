"""Sockets of TCP: how the project's processes listen, and how they notice that a peer is gone.

A model may think for minutes. NAT gateways, firewalls and load balancers forget a connection that is idle for as long,
and a peer that lost its network says nothing: both need a packet now and then.
"""

import errno
import socket

IDLE, INTERVAL, PROBES = 60, 15, 4
"""Seconds without a byte until a connection is probed, and between probes; the unanswered probes that end it."""

_NO_IPV6 = "IPv6 is switched off on this machine (listen on 0.0.0.0 in place of [::], on 127.0.0.1 in place of [::1])"


def keep_alive(connection: socket.socket) -> None:
    """Have the system probe a connection that is idle, in its own time where it has no such options."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", INTERVAL), ("TCP_KEEPCNT", PROBES)):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def bound(family: int, address: tuple[object, ...], *, joins: bool = False) -> socket.socket:
    """Bind a socket to listen on. `[::]` takes IPv4 too, whatever the system's default is. Raises OSError.

    The first of a port joins no other, so that it fails where somebody has the port; others may.
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
    """Bind a socket for a process that opens its port by itself, where its library would take IPv6 alone.

    Returns none where `host` is no IPv6 address. Raises OSError.
    """
    return [bound(socket.AF_INET6, (host, port))] if ":" in host else []


def _made(family: int) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # without it asyncio leaves Nagle on
    except OSError as error:
        if family == socket.AF_INET6 and error.errno == errno.EAFNOSUPPORT:
            raise OSError(error.errno, _NO_IPV6) from error
        raise
