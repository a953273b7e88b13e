from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers

from addon.patches import headers

NAMES = ("__init__", "__getitem__", "__contains__", "get", "get_all")
THEIRS = {name: getattr(Headers, name) for name in NAMES}

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


@pytest.fixture(autouse=True, scope="module")
def _as_it_was() -> Any:
    yield
    for name, method in THEIRS.items():
        setattr(Headers, name, method)


def outcome(lookup: Lookup, fields: list[tuple[bytes, bytes]], name: str | bytes) -> object:
    try:
        return lookup(Headers(fields), name)
    except (KeyError, UnicodeError) as error:
        return repr(error)


@pytest.mark.parametrize("lookup", LOOKUPS.values(), ids=LOOKUPS)
@given(fields=FIELDS, name=WANTED)
def test_what_is_found_is_what_mitmproxy_finds(lookup: Lookup, fields: list[tuple[bytes, bytes]], name: str) -> None:
    for method, theirs in THEIRS.items():
        setattr(Headers, method, theirs)
    expected = outcome(lookup, fields, name)
    headers.install()
    assert outcome(lookup, fields, name) == expected


def test_they_are_made_as_before() -> None:
    headers.install()
    assert Headers([(b"A", b"1")], content_type="text/plain").fields == ((b"A", b"1"), (b"content-type", b"text/plain"))
    assert Headers([[b"A", b"1"]]).fields == ((b"A", b"1"),)  # type: ignore[list-item]
    assert Headers().fields == ()
    for wrong in ([("A", b"1")], [(b"A", "1")]):
        with pytest.raises(TypeError, match="must be bytes"):
            Headers(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Expected str or bytes"):
        Headers().get_all(1)  # type: ignore[arg-type]
