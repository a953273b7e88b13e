"""The address of a client: the peer's, or the one that a trusted proxy reports.

Both ports use it, so that a log line and a row of the ledger name the same client. Such a proxy may also report that
the client came by https.
"""

import re
from collections.abc import Sequence

from store.network.addresses import Address, Network, address, network, plain

_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+))(?::[0-9]+)?")


def parse_networks(text: str) -> Sequence[Network]:
    """Read addresses and networks (CIDR), separated by commas. Raises ValueError, whose text quotes nothing."""
    networks = [network(part.strip(), strict=True) for part in text.split(",")] if text.strip() else []
    found = tuple(one for one in networks if one is not None)
    if len(found) < len(networks):
        raise ValueError(
            "must be addresses and networks such as 10.1.2.3 or 10.0.0.0/8, separated by commas; "
            "the bits behind a network's prefix must be 0"
        )
    return found


def client_address(peer: str, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """Return the client's address, IPv4 where it is mapped into IPv6.

    `peer` is the other end of the connection, `forwarded` the value of `X-Forwarded-For`: each proxy appends the
    address of its client. So it is read from its end, as long as the reporting address is in `trusted`.
    """
    if not forwarded or not trusted:
        return plain(peer)
    found = address(peer)
    if found is None:
        return peer
    for reported in filter(None, map(str.strip, reversed(forwarded.split(",")))):  # RFC 9110, section 5.6.1
        before = address(_without_port(reported))
        if before is None or not _is_in(found, trusted):
            break
        found = before
    return str(found)


def reported_https(peer: str, protocol: str | None, trusted: Sequence[Network]) -> bool:
    """Tell whether a trusted proxy reports that its client came by https; `protocol` is its `X-Forwarded-Proto`."""
    found = address(peer)
    last = (protocol or "").rpartition(",")[2].strip().lower()
    return found is not None and _is_in(found, trusted) and last == "https"


def _is_in(found: Address, networks: Sequence[Network]) -> bool:
    return any(found in network for network in networks)


def _without_port(text: str) -> str:
    """Remove a port, which some proxies add: `192.0.2.1:443`, `[2001:db8::1]:443`."""
    found = _WITH_PORT.fullmatch(text)
    return (found[1] or found[2]) if found else text
