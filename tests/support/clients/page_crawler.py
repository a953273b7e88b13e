"""Opens every page that links lead to, as a person who has logged in and follows them all, over HTTP."""

import html
import re
from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple, Self
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

from support.gateway.processes import DEADLINE

_LINK = re.compile(r'<(?:a|link|script|img)\b[^>]*\b(?:href|src)="([^"]*)"')
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_PAGE = re.compile(r"/docs\b|/login\b")
_QUERIES = 3
"""Pages that differ by their query alone, beside the one without: a list's sorts and filters are alike."""

_OBJECTS = 3
"""Pages that differ by an id alone."""


class Opened(NamedTuple):
    """A page or a file, with its address below the site."""

    address: str
    response: httpx.Response

    @property
    def is_page(self) -> bool:
        """True if it is shown in a browser, rather than kept as a file."""
        return self.response.headers["Content-Type"].startswith("text/html")


class Crawler:
    """A session of an administrator. It opens some pages of each kind."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"Origin": url}, timeout=DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @classmethod
    def log_in(cls, url: str, token: str) -> Self:
        """Log in to the pages at a URL."""
        crawler = cls(url)
        answer = crawler.client.post("/login", data={"token": token})
        assert answer.status_code == 303, answer.text
        return crawler

    def open_all(self) -> Iterator[Opened]:
        """Open every page, from the overview on. An error of the server is a failure, and so is a broken link."""
        waiting, known, alike = deque(["/"]), {"/"}, Counter[str]()
        while waiting:
            address = waiting.popleft()
            response = self.client.get(address, follow_redirects=True)
            assert (response.status_code, response.url.path == "/login") == (200, False), (address, response.text)
            opened = Opened(address, response)
            yield opened
            for found in _links(opened):
                kind = kind_of(found)
                alike[kind] += found not in known
                is_new_kind = alike[kind] == 1
                alike[_path(kind)] += found not in known and is_new_kind
                if found not in known and alike[kind] <= _OBJECTS and alike[_path(kind)] <= 1 + _QUERIES:
                    waiting.append(found)
                known.add(found)


def kind_of(address: str) -> str:
    """Return an address without ids and the values of its query."""
    path, _, query = _ID.sub("*", address).partition("?")
    return f"{path}?{' '.join(sorted(re.findall(r'(?:^|&)(\w+)=', query)))}"


def _path(kind: str) -> str:
    return kind.partition("?")[0]


def _links(opened: Opened) -> Iterator[str]:
    """Yield the addresses of this site that a page names."""
    if not opened.is_page:
        return
    for link in _LINK.findall(opened.response.text):
        parts = urlsplit(urldefrag(urljoin(str(opened.response.url), html.unescape(link))).url)
        address = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if parts.netloc == opened.response.url.netloc.decode() and not _NO_PAGE.match(parts.path):
            yield address
