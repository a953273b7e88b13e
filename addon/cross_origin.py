"""Cross-origin resource sharing: which pages in browsers may read responses.

Those of CORS_ORIGINS may, and `/docs` on the management port, so that its requests to the proxy can be tried. A page
needs a token for each request, as any client does.

A browser names the origin of a page in `Origin`, and lets the page read a response only if that allows the origin.
Before most requests with a token it asks whether it may send them: a preflight. The gateway answers that itself, as a
preflight carries no token. Wire format: the Fetch Standard, section 3.3.
"""

import re
from collections.abc import Collection

from mitmproxy import http

from addon import validation
from store.network.origins import ANY

type Fields = tuple[tuple[bytes, bytes], ...]
"""Headers, as mitmproxy keeps them."""

PREFIX = b"access-control-"
"""The names of these headers begin so, in small letters."""

MAX_AGE = 7200
"""Seconds for which a browser may keep the answer to a preflight; Chromium keeps none for longer."""

_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
"""Names of headers (RFC 9110, section 5.6.2), separated by commas."""

# `*` stands for all headers here, as browsers send no cookies along. It would not stand for Authorization in
# Access-Control-Allow-Headers, so that names what was asked for.
_EXPOSED = (b"Access-Control-Expose-Headers", b"*")
_ALLOWED = b"Access-Control-Allow-Origin"
_METHODS = (b"Access-Control-Allow-Methods", ", ".join(validation.API_METHODS).encode())
_AGE = (b"Access-Control-Max-Age", str(MAX_AGE).encode())
_VARY = (b"Vary", b"Origin")
_VARY_HEADERS = (b"Vary", b"Access-Control-Request-Headers")


class CrossOrigin:
    """The origins whose pages may read responses."""

    def __init__(self, origins: Collection[str], documentation: Collection[str] = ()) -> None:
        """Take the origins of CORS_ORIGINS, as browsers write them, or `*`; and those of `/docs`."""
        is_open = ANY in origins
        self._of_others: Fields = ((_ALLOWED, b"*"), _EXPOSED) if is_open else (_VARY,) if origins else ()
        self._of_listed: dict[str, Fields] = {
            origin: ((_ALLOWED, origin.encode()), _EXPOSED, _VARY) for origin in ({*origins, *documentation} - {ANY})
        }

    def fields(self, request: http.Request) -> Fields:
        """Return the headers that every response to a request gets.

        With a list of origins, caches are told of that for each response, also for one that no page may read. Without
        one, only the responses to `/docs` have these headers: a cache that keeps another shows it less, and never more.
        """
        return self._of_listed.get(request.headers.get("origin", ""), self._of_others)


def is_preflight(request: http.Request) -> bool:
    """Tell whether a browser asks if it may send a request. A preflight has no body."""
    headers = request.headers
    if request.data.method != b"OPTIONS" or "origin" not in headers or "access-control-request-method" not in headers:
        return False
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def preflight_fields(request: http.Request, allowing: Fields) -> Fields:
    """Return the headers that answer a preflight beside `allowing`, which every response to it gets."""
    if all(name != _ALLOWED for name, _ in allowing):
        return ()
    names = request.headers.get("access-control-request-headers", "")
    asked = ((b"Access-Control-Allow-Headers", names.encode()),) if _NAMES.fullmatch(names) else ()
    return (_METHODS, *asked, _AGE, _VARY_HEADERS)
