"""Origins of web pages, as CORS_ORIGINS lists them. They are compared as texts, so each has the form of browsers."""

from store.network.addresses import hostport, is_host, split_url

ANY = "*"
"""Stands for all origins, where it stands alone."""

_PORTS = {"http": 80, "https": 443}
_OPAQUE = "null"
"""The origin of local files, sandboxed frames and others that have none of their own."""

_FORM = (
    "must be origins such as https://app.example or http://localhost:3000, separated by commas, or * alone for all; "
    "a * within an origin has no meaning"
)


def parse_origins(text: str) -> frozenset[str]:
    """Read origins, separated by commas, or `*`; none in an empty text. Raises ValueError, whose text quotes nothing.

    An origin is returned as browsers write it (Fetch Standard, section 3.1): in small letters, without the port that
    its scheme has by default.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if ANY in parts and len(parts) > 1:
        raise ValueError("has a * among origins: it stands for all of them, so leave it alone, or take it out")
    return frozenset(parts) if ANY in parts else frozenset(map(_origin, parts))


def _origin(text: str) -> str:
    if text.lower() == _OPAQUE:
        raise ValueError("must not have null: any local file, and any site in a sandboxed frame, has that origin")
    parts = split_url(text)
    if parts is None or not parts.scheme or not parts.hostname or not is_host(parts.hostname) or parts.port == 0:
        raise ValueError(_FORM)
    if "@" in parts.netloc:
        raise ValueError("must have no user and no password in an origin")
    if text.lower() != f"{parts.scheme}://{parts.netloc}".lower():
        raise ValueError("must have no path in an origin, not even a / at its end: https://app.example")
    host, port = parts.hostname, parts.port
    if port is not None and port != _PORTS.get(parts.scheme):
        return f"{parts.scheme}://{hostport(host, port)}"
    return f"{parts.scheme}://[{host}]" if ":" in host else f"{parts.scheme}://{host}"
