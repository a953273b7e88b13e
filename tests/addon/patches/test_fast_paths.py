from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers

from addon.patches import fast_paths
from addon.replacing import restore_all

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
    fast_paths.install()
    assert outcome(lookup, fields, name) == expected


def test_a_lookup_of_neither_text_nor_bytes_is_rejected() -> None:
    fast_paths.install()
    with pytest.raises(TypeError, match="Expected str or bytes"):
        Headers().get_all(1)  # type: ignore[arg-type]
