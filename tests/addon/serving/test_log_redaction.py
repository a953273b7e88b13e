import logging
from collections.abc import Iterator

import pytest
from mitmproxy.addons.termlog import TermLogHandler

from addon.serving import log_redaction

TALKER = logging.getLogger("mitmproxy.proxy.server")
TOKEN = "6fd5ce84-0efa-4d8d-9dbd-8de4ab5e8b1b"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    filters, level, handlers = list(TALKER.filters), TALKER.level, list(logging.getLogger().handlers)
    yield
    TALKER.filters[:], logging.getLogger().handlers[:] = filters, handlers
    TALKER.setLevel(level)


@pytest.mark.parametrize(
    "quoted",
    [
        f"GET / HTTP/1.1\r\nAuthorization: Bearer {TOKEN}".encode(),
        f"it's {TOKEN}".encode(),
        f"'it\"s' {TOKEN}".encode(),
        f"\\' {TOKEN} \xff".encode("latin-1"),
    ],
)
def test_quoted_data_of_a_peer_is_replaced_before_any_handler(caplog: pytest.LogCaptureFixture, quoted: bytes) -> None:
    log_redaction.redact_wire_bytes()
    log_redaction.redact_wire_bytes()  # again is no fault
    TALKER.warning("Client closed connection before completing request headers: %r", quoted)
    TALKER.warning(f"Unexpected data: {quoted!r} and {quoted!r} more")
    TALKER.warning(f"Cannot parse ClientHello: {quoted.hex()}")
    assert TOKEN not in caplog.text
    assert TOKEN.encode().hex() not in caplog.text
    assert "Unexpected data: <bytes> more" in caplog.text


def test_other_messages_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    log_redaction.redact_wire_bytes()
    TALKER.warning("cannot connect to %s: %s", "host:1", "b is no quote")
    assert "cannot connect to host:1: b is no quote" in caplog.text


def test_connections_are_logged_at_debug_level_only() -> None:
    log_redaction.quieten(logging.INFO)
    assert not TALKER.isEnabledFor(logging.INFO)
    assert TALKER.isEnabledFor(logging.WARNING)
    log_redaction.quieten(logging.DEBUG)
    assert TALKER.isEnabledFor(logging.DEBUG)


def test_mitmproxys_own_handler_is_removed_and_no_other() -> None:
    root, other = logging.getLogger(), logging.NullHandler()
    root.addHandler(TermLogHandler())
    root.addHandler(other)
    log_redaction.remove_terminal_handler()
    assert not [handler for handler in root.handlers if isinstance(handler, TermLogHandler)]
    assert other in root.handlers


def test_mitmwebs_login_is_hidden(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.web")
    logger.setLevel(logging.INFO)
    log_redaction.hide_login(logger.name)
    logger.info("200 GET %s (127.0.0.1)", "/flows?page=1&token=0123abc&x=2")
    logger.info("100% served")
    assert caplog.messages == ["200 GET /flows?page=1&token=...&x=2 (127.0.0.1)", "100% served"]
