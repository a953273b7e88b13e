"""Reads hosts and addresses from texts, and writes them in one form."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_NAME = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_MAX_NAME = 253

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL; None for a text that is none: the errors of `urlsplit` quote parts of it."""
    if not _is_plain(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is read only now
    except ValueError:
        return None
    return parts


def is_host(name: str) -> bool:
    """Tell whether a text can be a host: an IPv6 address, as `urlsplit` accepts it, or a name, as resolvers do."""
    return ":" in name or (len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None)


def hostport(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address(text: str) -> Address | None:
    """Read an address, an IPv4-mapped one (::ffff:192.0.2.1) as the IPv4 address that it is; None for a name.

    None too for one with a zone (fe80::1%eth0): a zone is any text, and has a meaning on its machine alone.
    """
    if "%" in text:
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def network(text: str, *, strict: bool) -> Network | None:
    """Read a network (192.0.2.0/24) or an address, an IPv4-mapped one as IPv4; None for any other text.

    `strict`: the bits behind the prefix have to be 0. None for one with a zone, too, as `address` has it.
    """
    if "%" in text:
        return None
    try:
        found = ipaddress.ip_network(text, strict=strict)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        mapped = int(found.network_address) - int(_MAPPED.network_address)
        return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED.prefixlen))
    return found


def plain(host: str) -> str:
    """Return an IPv4-mapped address, as a socket for both families reports it, as IPv4; any other text as it is."""
    if not host.startswith("::ffff:"):
        return host
    found = address(host)
    return host if found is None else str(found)


def _is_plain(text: str) -> bool:
    """Tell whether a text can be a URL as it is. `urlsplit` accepts blanks, and drops line ends silently."""
    return text.isascii() and text.isprintable() and " " not in text
