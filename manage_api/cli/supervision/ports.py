"""Opens ports for the processes that are started, before they are: so each of them can be replaced by another one.

A port stays open here. What connects while a process is replaced, or is started again, waits in its queue.
"""

import contextlib
import errno
import socket
from collections.abc import Sequence

from store.errors import StartupError
from store.network.sockets import bound
from store.runtime.lifecycle import BACKLOG
from store.runtime.settings import Listen

_ADVICE = {
    errno.EADDRINUSE: "Stop what has it, or choose another port.",
    errno.EADDRNOTAVAIL: "Choose an address of this machine; where IPv6 is switched off, that is one of IPv4.",
    errno.EAFNOSUPPORT: "Choose another address.",
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
                sockets = [bound(family, address, joins=number > 0) for family, *_, address in addresses]
                opened.append([stack.enter_context(one) for one in sockets])
            for one in (one for sockets in opened for one in sockets):
                one.listen(BACKLOG)
            stack.pop_all()
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Choose another port.")
        raise StartupError(f"Cannot listen on {name}={listen}: {error.strerror}. {advice}") from None
    return opened
