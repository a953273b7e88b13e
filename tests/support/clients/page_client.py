"""A browser without JavaScript, for pages of the application: follows links, fills in forms, keeps cookies."""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ORIGIN = "http://localhost"

type Attributes = dict[str, str | None]


class Form:
    """A form of a page: where it goes, its method, and the fields that it would send as they are."""

    def __init__(self, attributes: Attributes) -> None:
        self.action = attributes.get("action") or ""
        self.method = (attributes.get("method") or "get").lower()
        self.fields: dict[str, str] = {}
        self.buttons: list[str] = []


class Page(HTMLParser):
    """A page: its text, links and forms, as a person without JavaScript has them."""

    def __init__(self, answer: TestResponse) -> None:
        super().__init__()
        self.answer = answer
        self.status = answer.status_code
        self.path = answer.request.path
        self.html = answer.get_data(as_text=True)
        self.links: dict[str, str] = {}
        self.forms: list[Form] = []
        self._words: list[str] = []
        self._open: list[tuple[str, Attributes]] = []
        self._select: str | None = None
        self._text = ""
        self.feed(self.html)

    @property
    def text(self) -> str:
        """Return what is read on the page."""
        return " ".join(" ".join(self._words).split())

    def form(self, button: str) -> Form:
        """Return the only form with a button of this text."""
        (found,) = [form for form in self.forms if button in form.buttons]
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read a form and its fields, or the beginning of a link."""
        attributes = dict(attrs)
        if tag == "form":
            self.forms.append(Form(attributes))
        elif tag == "input" and attributes.get("name"):
            is_choice = attributes.get("type") in {"checkbox", "radio"}
            if not is_choice or "checked" in attributes:
                self.forms[-1].fields[str(attributes["name"])] = attributes.get("value") or ("on" if is_choice else "")
        elif tag == "select":
            self._select = attributes["name"]
        elif tag == "option" and self._select:
            fields = self.forms[-1].fields
            if "selected" in attributes or self._select not in fields:
                fields[self._select] = attributes.get("value") or ""
        if tag in {"a", "button", "textarea"}:
            self._text = ""
            self._open.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        """Read the text of a link, a button or a field."""
        if tag == "select":
            self._select = None
        if self._open and self._open[-1][0] == tag:
            _, attributes = self._open.pop()
            words = " ".join(self._text.split())
            if tag == "a":
                self.links[words] = attributes.get("href") or ""
            elif tag == "button" and self.forms:
                self.forms[-1].buttons.append(words)
            elif tag == "textarea":
                # The parser of a browser leaves out a first newline.
                self.forms[-1].fields[str(attributes["name"])] = self._text.removeprefix("\n")

    def handle_data(self, data: str) -> None:
        """Read text."""
        self._words.append(data)
        self._text += data


class Browser:
    """A browser: opens pages, follows redirects, and sends forms as pages of the server do."""

    def __init__(self, client: FlaskClient, headers: Mapping[str, str] | None = None) -> None:
        self.client = client
        self.headers = dict(headers or {})

    def open(self, path: str, **headers: str) -> Page:
        """Open a page."""
        return Page(self.client.get(path, headers={**self.headers, **headers}, follow_redirects=True))

    def follow(self, page: Page, link: str) -> Page:
        """Follow the link with a text."""
        return self.open(urljoin(page.path, page.links[link]))

    def send(self, page: Page, button: str, **values: str) -> Page:
        """Fill in the form of a button, and press it. A field that the form does not have is a KeyError."""
        form = page.form(button)
        for name in values:
            if name not in form.fields:
                raise KeyError(name)
        return self.post(urljoin(page.path, form.action or page.path), {**form.fields, **values}, form.method)

    def post(self, path: str, fields: Mapping[str, Any], method: str = "post", **headers: str) -> Page:
        """Send fields as a form of the server's own pages does; headers may say otherwise."""
        sent = {**self.headers, **headers}
        if method == "get":
            return Page(self.client.get(path, query_string=fields, headers=sent, follow_redirects=True))
        own = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
        answer = self.client.post(path, data=fields, headers={**own, **sent}, follow_redirects=True)
        return Page(answer)

    def log_in(self, token: str) -> Page:
        """Log in, and return the page that follows."""
        return self.send(self.open("/login"), "Log in", token=token)

    def cookies(self) -> Iterator[str]:
        """Return the cookies' values."""
        for cookie in (self.client._cookies or {}).values():  # noqa: SLF001 - werkzeug has no public way to list them
            yield cookie.value
