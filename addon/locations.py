"""Rewrites locations in the upstream's responses that name the upstream itself: they lead to the gateway instead.

A client that followed one would leave the gateway, and learn the upstream's address. So `Location` and
`Content-Location` (RFC 9110, sections 10.2.2 and 8.7) of the upstream's own origin become paths, without the
upstream's path prefix; paths outside of the prefix are not found at the gateway. Other origins pass unchanged, and so
do relative references: clients resolve them against their own request, whose path ends as the upstream's does.
"""

import ipaddress
import re
from urllib.parse import unquote_to_bytes

from store.runtime.settings import Upstream

LOCATIONS = frozenset({b"location", b"content-location"})
"""The headers that hold one, in small letters."""

# Browsers also take backslashes for slashes, and any number of them before an authority (WHATWG URL, section 4.4).
_WITH_AUTHORITY = re.compile(rb"(?:(https?):[/\\]+|[/\\]{2,})([^/\\?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(rb"(?:.*@)?(\[[^\]]*\]|[^:]*):?(.*)", re.DOTALL)
_SLASHES = (b"/", b"\\")
_ENDS_OF_A_SEGMENT = (b"", *_SLASHES, b"?", b"#")

_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


def for_client(location: bytes, upstream: Upstream) -> bytes:
    """Return the value of a location header as it goes to the client."""
    reference = location.replace(b"\t", b"").strip(b" ")  # browsers ignore tabs
    found = _WITH_AUTHORITY.fullmatch(reference)
    if found:
        scheme, authority, path = found.groups()
        return _on_gateway(path, upstream) if _is_upstream(scheme, authority, upstream) else location
    return _on_gateway(reference, upstream) if reference.startswith(b"/") else location


def _is_upstream(scheme: bytes | None, authority: bytes, upstream: Upstream) -> bool:
    """Tell whether an authority is the upstream's, with http and https on their own ports as one.

    A server behind a TLS terminator may name itself with http. An invalid port counts as the upstream's.
    """
    found = _AUTHORITY.fullmatch(authority)
    if found is None or _host(found[1]) != _host(upstream.host.encode()):
        return False
    own, given = str(upstream.port).encode(), found[2]
    port = given.lstrip(b"0") if given else _DEFAULT_PORTS[(scheme or upstream.scheme.encode()).lower()]
    return not port.isdigit() or port == own or {port, own} <= {*_DEFAULT_PORTS.values()}


def _host(name: bytes) -> str:
    """Return a host in its canonical form."""
    host = unquote_to_bytes(name).decode("latin-1").lower().strip("[]").rstrip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _on_gateway(path: bytes, upstream: Upstream) -> bytes:
    """Return a path of the upstream's, with its query and fragment, as one of the gateway's."""
    prefix = upstream.prefix.encode()
    rest = path.removeprefix(prefix)
    if rest[:1] in _ENDS_OF_A_SEGMENT:
        path = rest
    if not path.startswith(b"/"):
        path = b"/" + path.removeprefix(b"\\")
    return b"/." + path if path[1:2] in _SLASHES else path  # two slashes would begin an authority
