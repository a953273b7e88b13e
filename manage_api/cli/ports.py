"""Opens ports for the processes that are started, before they are: so each of them can be replaced by another one.

A port stays open here. What connects while a process is replaced, or is started again, waits in its queue.
"""

import contextlib
import errno
import socket
from collections.abc import Sequence

from store.errors import StartupError
from store.lifecycle import BACKLOG
from store.settings import Listen

_ADVICE = {
    errno.EADDRINUSE: "Stop what has it, or choose another port.",
    errno.EADDRNOTAVAIL: "Choose an address of this machine.",
}

type Sockets = Sequence[socket.socket]


def open_port(name: str, listen: Listen, shares: int = 1) -> list[Sockets]:
    """Open a port and return its sockets, those of each share: the system spreads connections evenly over shares.

    A host's name may stand for several addresses, of which each has a socket. Raises StartupError, naming the setting,
    where the port is taken, also by a process that would share it, or cannot be opened.
    """
    opened: list[Sockets] = []
    try:
        with contextlib.ExitStack() as stack:
            addresses = socket.getaddrinfo(
                *listen, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
            )
            for number in range(shares):
                sockets = [_bound(family, address, joins=number > 0) for family, *_, address in addresses]
                opened.append([stack.enter_context(one) for one in sockets])
            for one in (one for sockets in opened for one in sockets):
                one.listen(BACKLOG)
            stack.pop_all()
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Choose another port.")
        raise StartupError(f"Cannot listen on {name}={listen}: {error.strerror}. {advice}") from None
    return opened


def _bound(family: int, address: tuple[object, ...], *, joins: bool) -> socket.socket:
    """Bind a socket. The first of a port joins no other, so that it fails where somebody has the port; others may."""
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if joins:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        bound.close()
        raise
    return bound
