"""Opens the ports of the services before their processes start, so that any process can be replaced by another.

The supervisor keeps them open: connections that arrive while a process is replaced or restarted wait in the queue.
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
    """Open a port, and return the sockets of each share. The system spreads connections evenly over the shares.

    A host name may have several addresses; each gets a socket. Raises StartupError, which names the setting, where the
    port cannot be opened or is taken, even by a process that would share it.
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
