"""Forward proxies on the way to the upstream, as in a company's network.

The variables are those of curl, Go and Python's libraries, and are read in the same way. Comments mark where these
differ.
"""

import base64
import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from urllib.parse import unquote_to_bytes

from store.network.addresses import Network, address, hostport, is_host, network, split_url

_PORTS = {"http": 80, "https": 443}

_ENTRY = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+|[^\[\]]*:[^\[\]]*:[^\[\]]*?)(?::(?P<port>\d{1,5}))?")
"""An entry of NO_PROXY: a host or an address, an IPv6 address with or without brackets, and perhaps a port."""


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """A proxy that opens tunnels (CONNECT; RFC 9110, section 9.3.6)."""

    setting: str
    """The name of its setting, for messages."""
    tls: bool
    """True if the connection to the proxy itself is over TLS."""
    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The value of the header Proxy-Authorization; empty for none."""

    @classmethod
    def parse(cls, url: str, setting: str) -> Self:
        """Read `http://user:password@host:port`; the scheme and the user are optional.

        Raises ValueError, whose text quotes nothing.
        """
        parts = split_url(url if "://" in url else f"http://{url}")
        if parts is None or parts.port == 0:
            raise ValueError(
                "must be the URL of a proxy, such as http://proxy.example:3128; "
                "in its user and password, a sign that means something in a URL is written with %XX"
            )
        if parts.scheme not in _PORTS:
            raise ValueError("must begin with http:// or https://: other kinds of proxies, such as SOCKS, are not used")
        if parts.hostname is None or not is_host(parts.hostname):
            raise ValueError("must be a URL with the proxy's host, such as http://proxy.example:3128")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                "must end after the proxy's port; in its user and password, a sign that means something in a URL, "
                "such as / or #, is written with %XX"
            )
        port = parts.port or _PORTS[parts.scheme]
        return cls(setting, parts.scheme == "https", parts.hostname, port, _basic(parts.username, parts.password))

    def connect_request(self, host: str, port: int) -> bytes:
        """Return the request for a tunnel to a destination. It holds the credentials."""
        authority = hostport(host, port)
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def __str__(self) -> str:
        return f"{hostport(self.host, self.port)} ({self.setting})"


def _basic(user: str | None, password: str | None) -> str:
    """Return the credentials of a URL for a header (RFC 7617)."""
    if user is None:
        return ""
    credentials = unquote_to_bytes(user) + b":" + unquote_to_bytes(password or "")
    return f"Basic {base64.b64encode(credentials).decode()}"


class _Exception(NamedTuple):
    """An entry of NO_PROXY."""

    name: str
    """A host that it matches, with all below it; `*` for every host."""
    network: Network | None
    """The addresses that it matches, where it is no name."""
    port: int | None
    """The only port that it matches; None for all."""

    @classmethod
    def parse(cls, entry: str) -> Self | None:
        """Read `host`, `.suffix`, `*.suffix`, an address, a CIDR or `*`; None for any other text."""
        if "/" in entry:
            return cls("", found, None) if (found := network(entry, strict=False)) else None
        parts = _ENTRY.fullmatch(entry)
        if parts is None:
            return None
        host, port = parts["host"], int(parts["port"]) if parts["port"] else None
        found = network(host.strip("[]"), strict=False)
        if found is not None:
            return cls("", found, port)
        name = host if host == "*" else host.removeprefix("*").removeprefix(".").rstrip(".").lower()
        # A leading dot includes the domain itself for curl, and excludes it for Go; here as for curl.
        return cls(name, None, port) if name == "*" or is_host(name) else None

    def covers(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        found = address(host)
        if self.network is not None:
            return found is not None and found in self.network
        # Names match names alone: no name is resolved to compare its address.
        return self.name == "*" or (found is None and f".{host}".endswith(f".{self.name}"))


class Exceptions:
    """The destinations that NO_PROXY names."""

    def __init__(self, text: str) -> None:
        entries = [entry for entry in re.split(r"[\s,]+", text) if entry]
        parsed = [_Exception.parse(entry) for entry in entries]
        self._known = [one for one in parsed if one is not None]
        self.unread = [number for number, one in enumerate(parsed, 1) if one is None]
        """The numbers, from 1 on, of the entries that cannot be read, and have no effect."""

    def cover(self, host: str, port: int) -> bool:
        """Tell whether a destination is connected to without a proxy."""
        return any(one.covers(host.rstrip(".").lower(), port) for one in self._known)


@dataclass(frozen=True, slots=True)
class Ways:
    """Chooses the proxy for a destination, or none."""

    https: ForwardProxy | None
    http: ForwardProxy | None
    exceptions: Exceptions

    def to(self, host: str, port: int, *, tls: bool) -> ForwardProxy | None:
        """Return the proxy for a destination; None where it is connected to directly. Loopback always is."""
        proxy = self.https if tls else self.http
        return None if proxy is None or _is_loopback(host) or self.exceptions.cover(host, port) else proxy


def _is_loopback(host: str) -> bool:
    name, found = host.rstrip(".").lower(), address(host)
    if found is None:
        with contextlib.suppress(OSError):
            found = ipaddress.IPv4Address(socket.inet_aton(name))  # 127.1 and similar, as the system reads them
    if found is None:
        return f".{name}".endswith(".localhost")
    return found.is_loopback or found.is_unspecified  # a connection to 0.0.0.0 or :: stays on this machine too
