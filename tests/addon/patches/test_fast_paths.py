from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import options, optmanager
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.http import Headers
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer

from addon.patches import fast_paths
from addon.replacing import restore_all

CURRENT = optmanager._Option.current  # noqa: SLF001

SOME = st.sampled_from([b"Host", b"host", b"HOST", b"X-A", b"x-a", b"X-\xc4", b"x-\xe4", b""])
FIELDS = st.lists(st.tuples(SOME | st.binary(max_size=3), st.binary(max_size=5)), max_size=5)
WANTED = SOME | SOME.map(lambda name: name.decode("utf-8", "surrogateescape")) | st.text(max_size=3)

type Lookup = Callable[[Any, str | bytes], object]
LOOKUPS: dict[str, Lookup] = {
    "item": lambda found, name: found[name],
    "contains": lambda found, name: name in found,
    "get": lambda found, name: found.get(name),
    "default": lambda found, name: found.get(name, "default"),
    "all": lambda found, name: found.get_all(name),
    "pop": lambda found, name: (found.pop(name, None), found.fields),
    "set": lambda found, name: (found.__setitem__(name, "new"), found.fields),
    "setdefault": lambda found, name: (found.setdefault(name, "new"), found.fields),
}


def outcome(lookup: Lookup, fields: list[tuple[bytes, bytes]], name: str | bytes) -> object:
    try:
        return lookup(Headers(fields), name)
    except (KeyError, UnicodeError) as error:
        return repr(error)


@pytest.mark.parametrize("lookup", LOOKUPS.values(), ids=LOOKUPS)
@given(fields=FIELDS, name=WANTED)
def test_lookups_of_headers_return_what_mitmproxy_returns(
    lookup: Lookup, fields: list[tuple[bytes, bytes]], name: str
) -> None:
    restore_all()
    expected = outcome(lookup, fields, name)
    fast_paths.look_headers_up()
    assert outcome(lookup, fields, name) == expected


def test_headers_are_made_as_mitmproxy_makes_them() -> None:
    fast_paths.look_headers_up()
    assert Headers([(b"A", b"1")], content_type="text/plain").fields == ((b"A", b"1"), (b"content-type", b"text/plain"))
    assert Headers([[b"A", b"1"]]).fields == ((b"A", b"1"),)  # type: ignore[list-item]
    assert Headers().fields == ()
    for wrong in ([("A", b"1")], [(b"A", "1")]):
        with pytest.raises(TypeError, match="must be bytes"):
            Headers(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Expected str or bytes"):
        Headers().get_all(1)  # type: ignore[arg-type]


def test_all_options_are_read_as_mitmproxy_reads_them() -> None:
    fast_paths.read_options()
    found = options.Options()
    for name, option in found._options.items():  # noqa: SLF001
        assert getattr(found, name) == CURRENT(option)


def test_a_value_that_was_set_is_read_until_it_is_reset() -> None:
    fast_paths.read_options()
    found = options.Options()
    found.update(ssl_insecure=True, client_certs="folder")
    assert (found.ssl_insecure, found.client_certs) == (True, "folder")
    found.reset()
    assert (found.ssl_insecure, found.client_certs) == (False, None)


def test_a_mutable_value_is_still_a_copy() -> None:
    fast_paths.read_options()
    found = options.Options()
    found.update(mode=["reverse:http://127.0.0.1:1"])
    found.mode.append("regular")
    assert found.mode == ["reverse:http://127.0.0.1:1"]


def test_a_forked_context_equals_mitmproxys() -> None:
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    context = Context(client, Options())
    TCPLayer(context)
    theirs = context.fork()
    fast_paths.fork_contexts()
    ours = context.fork()
    assert type(ours) is type(theirs)
    assert vars(ours) == vars(theirs)
    assert ours.layers is not context.layers
