import gzip
import json
import logging
from collections.abc import Callable
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateway.requests import make_request, make_response

from addon.exchange import Destination, Exchange, Grant
from addon.rejection import MAX_BODY, PIECE, Rejection
from store.errors import UpstreamKeyRejected
from store.request import Opened
from store.runtime.settings import Upstream

KEY = "sk-proj-q0Zx7Wv2Lk9Rt4Yb8NcPd3Hf6Js1Mg5Aa"
QUOTED = f"{KEY[:8]}{'*' * 30}{KEY[-4:]}"
MESSAGE = f"Incorrect API key provided: {QUOTED}. You can find your API key at https://example.com/account."


def rejection(
    *headers: tuple[str, str], key: str | None = KEY, sent: tuple[tuple[str, str], ...] = ()
) -> tuple[Exchange, Rejection]:
    exchange = Exchange(sent_at=1.0, upstream=Upstream("https", "upstream", 443, ""))
    exchange.opened = Opened(exchange.request_id, 0, "the-project", "the-token", "/v1/models")
    exchange.grant = None if key is None else Grant(Destination("upstream", 443, tls=True), key)
    return exchange, Rejection(exchange, make_request(*sent), make_response(*headers, status=401))


def refusal(
    error: object, *headers: tuple[str, str], key: str | None = KEY, sent: tuple[tuple[str, str], ...] = ()
) -> UpstreamKeyRejected:
    _, rejected = rejection(*headers, key=key, sent=sent)
    assert rejected.feed(json.dumps({"error": error}).encode())
    return rejected.refusal()


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the fields of the only record."""
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "the upstream rejected a project's key"
    return vars(record)


def test_the_client_gets_the_code_alone_and_the_log_the_text(caplog: pytest.LogCaptureFixture) -> None:
    refused = refusal({"message": MESSAGE, "type": "invalid_request_error", "code": "invalid_api_key"})
    assert refused.body() == {
        "error": UpstreamKeyRejected.text,
        "code": "upstream_key_rejected",
        "message": UpstreamKeyRejected.text,
        "description": "invalid_api_key",
    }
    record = logged(caplog)
    assert record["text"] == "Incorrect API key provided: *** You can find your API key at ***"
    assert (record["code"], record["project_id"], record["upstream"]) == (
        "invalid_api_key",
        "the-project",
        "https://upstream",
    )
    assert record["request_id"]


@pytest.mark.parametrize(
    "code",
    [
        *(None, 401, ["invalid_api_key"], "", "401", "Invalid API key", "invalid-api-key", "INVALID_API_KEY"),
        *("x" * 65, "invalid_api_key\n", "é", KEY, KEY[-4:].lower(), "key_8ncp", "proj"),
    ],
)
def test_a_code_that_is_no_plain_word_or_may_quote_the_key_is_withheld(
    code: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert "description" not in refusal({"message": MESSAGE, "code": code}).body()
    assert "code" not in logged(caplog)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Your account isn't active.", "Your account isn't active."),
        ('The "organization" (yours) must be verified!', 'The "organization" (yours) must be verified!'),
        (KEY, "***"),
        (KEY.upper(), "***"),
        (f"a {KEY[4:9]} b", "a *** b"),
        (f"key={QUOTED}", "***"),
        ("ends in 5Aa", "ends in ***"),
        ("q0Zx q0Z x7Wv NcPd cPd3 dNcP", "*** *** *** *** *** dNcP"),
        ("antidisestablishmentarianism", "***"),
        ("word\u2028word", "word word"),
        ("<b>html</b>", "***"),
    ],
)
def test_only_plain_words_without_pieces_of_the_key_are_logged(
    text: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal({"message": text})
    assert logged(caplog)["text"] == kept


def test_a_long_text_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    refusal({"message": "word " * 5000})
    assert logged(caplog)["text"].split() == ["word"] * 100


KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)


@given(KEYS, st.data())
def test_no_piece_of_the_key_gets_out(key: str, data: st.DataObject) -> None:
    begins = st.integers(0, len(key) - 1)
    quotes = st.tuples(begins, begins, st.sampled_from(["", " ", ".", "x", "***", "'"])).map(
        lambda cut: f"{cut[2]}{key[min(cut[:2]) : max(cut[:2]) + 1]}{cut[2]}"
    )
    text = data.draw(st.lists(quotes | st.sampled_from(["word", " ", "invalid_api_key"]), max_size=6).map("".join))
    exchange, rejected = rejection(("X-Request-ID", text), key=key)
    rejected.feed(json.dumps({"error": {"message": text, "code": text, "type": text}, "message": text}).encode())
    with _Records() as records:
        refused = rejected.refusal()
    shown = [refused.description, refused.headers.get("X-Request-ID"), exchange.upstream_request_id]
    shown += [vars(record).get(name) for record in records.seen for name in ("text", "code", "upstream_request_id")]
    for piece in {key[start : start + PIECE] for start in range(len(key) - PIECE + 1)}:
        assert not any(piece in text for text in shown if text is not None)


class _Records(logging.Handler):
    """Keeps the log records about rejections, until the block ends."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)

    def __enter__(self) -> Self:
        logging.getLogger("addon.rejection").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("addon.rejection").removeHandler(self)


@pytest.mark.parametrize(
    ("key", "kept"), [("", "*** *** ***"), (None, "*** *** ***"), ("x", "An error: ***"), ("error", "An *** x.")]
)
def test_a_key_that_is_unknown_or_short_is_not_quoted_either(
    key: str | None, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = refusal({"message": "An error: x.", "code": "error_x"}, ("X-Request-ID", "error-x"), key=key)
    assert refused.description is None
    assert logged(caplog)["text"] == kept


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ([], ""),
        (["OpenAI-Organization"], "OpenAI-Organization"),
        (["openai-project"], "OpenAI-Project"),
        (["OpenAI-Project", "OpenAI-Organization"], "OpenAI-Organization and OpenAI-Project"),
    ],
)
def test_headers_that_may_be_the_cause_instead_are_named(sent: list[str], named: str) -> None:
    message = refusal({}, sent=tuple((name, "an-id") for name in sent)).message
    assert message.startswith(UpstreamKeyRejected.text)
    assert message.endswith(f"The cause may also be what this request names in {named}." if named else "works.")
    assert "an-id" not in message


def test_the_response_has_the_upstreams_request_id_and_duration() -> None:
    exchange, rejected = rejection(("X-Request-ID", "req_1"), ("WWW-Authenticate", "Bearer"), ("Retry-After", "9"))
    refused = rejected.refusal()
    assert refused.headers.keys() == {"x-should-retry", "X-Request-ID", "X-LLM-Proxy-Remote-Duration-Ms"}
    assert refused.headers["X-Request-ID"] == exchange.upstream_request_id == "req_1"
    assert refused.headers["X-LLM-Proxy-Remote-Duration-Ms"] == str(exchange.remote_ms)
    assert exchange.status == 401


@pytest.mark.parametrize("request_id", [KEY, f"req_{KEY[-4:]}", "no id", ""])
def test_a_request_id_that_may_quote_the_key_is_withheld(request_id: str) -> None:
    exchange, rejected = rejection(("X-Request-ID", request_id))
    assert "X-Request-ID" not in rejected.refusal().headers
    assert exchange.upstream_request_id is None


BODY = json.dumps({"error": {"code": "invalid_api_key"}}).encode()


BODIES: dict[str, tuple[str, Callable[[], bytes], str | None]] = {
    "gzip": ("gzip", lambda: gzip.compress(BODY), "invalid_api_key"),
    "gzip, too large": ("gzip", lambda: gzip.compress(BODY + b" " * MAX_BODY), None),
    "gzip, far too large": ("gzip", lambda: gzip.compress(BODY + b" " * 50_000_000), None),
    "gzip, cut": ("gzip", lambda: gzip.compress(BODY)[:-12], None),
    "no gzip": ("gzip", lambda: BODY, None),
    "an unknown coding": ("nonsense", lambda: BODY, None),
    "plain": ("identity", lambda: BODY, "invalid_api_key"),
    "nothing": ("identity", lambda: b"", None),
    "a list": ("identity", lambda: b"[]", None),
    "a text for the error": ("identity", lambda: b'{"error": "invalid_api_key"}', None),
    "nested too deeply": ("identity", lambda: b'{"error": ' * 20_000, None),
    "no text": ("identity", lambda: b"\xff\xfe\x00", None),
    "too large": ("identity", lambda: BODY + b" " * MAX_BODY, None),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_of_any_kind_raises_nothing(kind: str) -> None:
    coding, make, code = BODIES[kind]
    body = make()
    _, rejected = rejection(("Content-Encoding", coding))
    assert rejected.feed(body) == (len(body) < MAX_BODY)
    assert rejected.refusal().description == code
