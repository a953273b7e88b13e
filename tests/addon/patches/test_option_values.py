from collections.abc import Iterator

import pytest
from mitmproxy import options, optmanager

from addon.patches import option_values

THEIRS = optmanager._Option.current  # noqa: SLF001


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    option_values.install()
    yield
    optmanager._Option.current = THEIRS  # type: ignore[method-assign]  # noqa: SLF001


def test_all_options_are_read_as_mitmproxy_reads_them() -> None:
    found = options.Options()
    for name, option in found._options.items():  # noqa: SLF001
        assert getattr(found, name) == THEIRS(option)


def test_a_value_that_was_set_is_read_until_it_is_reset() -> None:
    found = options.Options()
    found.update(ssl_insecure=True, client_certs="folder")
    assert (found.ssl_insecure, found.client_certs) == (True, "folder")
    found.reset()
    assert (found.ssl_insecure, found.client_certs) == (False, None)


def test_what_can_be_changed_is_still_a_copy() -> None:
    found = options.Options()
    found.update(mode=["reverse:http://127.0.0.1:1"])
    found.mode.append("regular")
    assert found.mode == ["reverse:http://127.0.0.1:1"]
