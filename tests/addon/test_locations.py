from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addon import locations
from store.runtime.settings import Upstream

OPENAI = "https://api.openai.com"
AZURE = "https://acme.openai.azure.com/openai/v1"
LOCAL = "http://127.0.0.1:8000"
IPV6 = "http://[2001:db8::1]:8000"
GATEWAY = "http://gateway.example/v1/models/"


def for_client(location: str | bytes, upstream: str) -> str:
    value = location if isinstance(location, bytes) else location.encode()
    return locations.for_client(value, Upstream.parse(upstream)).decode("latin-1")


@pytest.mark.parametrize(
    ("upstream", "location", "rewritten"),
    [
        (OPENAI, "https://api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "https://api.openai.com:443/v1/models?a=b#c", "/v1/models?a=b#c"),
        (OPENAI, "HTTPS://API.OpenAI.com/v1/models", "/v1/models"),
        (OPENAI, "https://api.openai.com./v1/models", "/v1/models"),
        (OPENAI, "https://api.openai.com:0443/v1/models", "/v1/models"),
        (OPENAI, "//api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "http://api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "http://api.openai.com:443/v1/models", "/v1/models"),
        (OPENAI, "https://user:secret@api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "https://api%2Eopenai.com/v1/models", "/v1/models"),
        (OPENAI, "https://api.openai.com:port/v1/models", "/v1/models"),
        (OPENAI, "https://api.openai.com:/v1/models", "/v1/models"),
        (OPENAI, "https://[api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "https:\\\\api.openai.com\\v1\\models", "/v1\\models"),
        (OPENAI, "https:/api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "/\\api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "///api.openai.com/v1/models", "/v1/models"),
        (OPENAI, " ht\ttps://api.openai.com/v1/models", "/v1/models"),
        (OPENAI, "https://api.openai.com", "/"),
        (OPENAI, "https://api.openai.com?a=b", "/?a=b"),
        (OPENAI, "https://api.openai.com#c", "/#c"),
        (OPENAI, "https://api.openai.com/login", "/login"),
        (OPENAI, "https://api.openai.com/v1/x?next=https://api.openai.com/", "/v1/x?next=https://api.openai.com/"),
        (AZURE, "https://acme.openai.azure.com/openai/v1/files/1", "/v1/files/1"),
        (AZURE, "https://acme.openai.azure.com/openai", "/"),
        (AZURE, "https://acme.openai.azure.com/openai?a", "/?a"),
        (AZURE, "https://acme.openai.azure.com/openai/deployments", "/deployments"),
        (AZURE, "https://acme.openai.azure.com/openaix/v1", "/openaix/v1"),
        (AZURE, "https://acme.openai.azure.com/v1/files/1", "/v1/files/1"),
        (AZURE, "/openai/v1/files/1", "/v1/files/1"),
        (AZURE, "/OpenAI/v1/files/1", "/OpenAI/v1/files/1"),
        (AZURE, "/v1/files/1", "/v1/files/1"),
        (LOCAL, "http://127.0.0.1:8000/v1/x", "/v1/x"),
        (LOCAL, "https://127.0.0.1:8000/v1/x", "/v1/x"),
        (LOCAL, "//127.0.0.1:8000/v1/x", "/v1/x"),
        (IPV6, "http://[2001:DB8:0:0::1]:8000/v1/x", "/v1/x"),
    ],
)
def test_a_location_at_the_upstream_becomes_a_path(upstream: str, location: str, rewritten: str) -> None:
    assert for_client(location, upstream) == rewritten


@pytest.mark.parametrize(
    "location",
    [
        "https://api.openai.com//evil.example/v1",
        "https://api.openai.com/\\evil.example/v1",
        "https://api.openai.com\\/evil.example/v1",
        "https://api.openai.com/\t/evil.example/v1",
        "https://api.openai.com///evil.example",
    ],
)
def test_a_location_at_the_upstream_does_not_become_one_elsewhere(location: str) -> None:
    rewritten = for_client(location, OPENAI)
    assert rewritten.startswith(("/./", "/.\\"))
    assert urlsplit(urljoin(GATEWAY, rewritten.replace("\\", "/"))).netloc == "gateway.example"


def test_a_prefix_in_front_of_two_slashes_leaves_no_authority() -> None:
    assert for_client("/openai//evil.example/v1", AZURE) == "/.//evil.example/v1"


@pytest.mark.parametrize(
    ("upstream", "location"),
    [
        (OPENAI, "https://cdn.example/v1/models"),
        (OPENAI, "https://api.openai.com.evil.example/v1"),
        (OPENAI, "https://api.openai.com@evil.example/v1"),
        (OPENAI, "https://evil.example/https://api.openai.com/v1"),
        (OPENAI, "//cdn.example/v1"),
        (OPENAI, "https://api.openai.com:8443/v1"),
        (OPENAI, "ftp://api.openai.com/v1"),
        (OPENAI, "https:///"),
        (OPENAI, "//"),
        (LOCAL, "http://127.0.0.1/v1"),
        (LOCAL, "http://127.0.0.1:80001/v1"),
        (IPV6, "http://[2001:db8::2]:8000/v1"),
        (OPENAI, ""),
        (OPENAI, "models"),
        (OPENAI, "../files/1?a#b"),
        (OPENAI, "?page=2"),
        (OPENAI, "#part"),
        (OPENAI, "/v1/models/"),
        (OPENAI, "caf\u00e9:x"),
    ],
)
def test_other_origins_and_relative_references_are_unchanged(upstream: str, location: str) -> None:
    assert locations.for_client(location.encode(), Upstream.parse(upstream)) == location.encode()


@pytest.mark.parametrize("location", [b"\xff\xfe", b"https://\xff/", b"https://api.openai.com:\xff/v1", b"/\xff", b"%"])
def test_bytes_that_are_no_text_raise_nothing(location: bytes) -> None:
    assert "api.openai.com" not in for_client(location, OPENAI)


@pytest.mark.parametrize("port", ["9" * 5000, "\u00b2", "-1", "+443", "4_43"])
def test_an_odd_port_raises_nothing(port: str) -> None:
    for_client(f"https://api.openai.com:{port}/v1", OPENAI)


PIECES = st.sampled_from(
    [
        *("https:", "http:", "/", "//", "\\", "api.openai.com", "API.OPENAI.COM.", "evil.example", ":443", ":80", ":"),
        *("@", "user", "?", "#", "\t", " ", ".", "..", "/v1", "/openai", "%2e", "[", "]", "x"),
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.sampled_from([OPENAI, f"{OPENAI}/openai"]))
@example("https:/api.openai.com:443https:", OPENAI)
@example("//api.openai.com[", OPENAI)
def test_no_location_leads_a_client_to_the_upstream_or_to_another_host(location: str, upstream: str) -> None:
    before, after = (_followed(reference) for reference in (location, for_client(location, upstream)))
    assert after != "api.openai.com"
    if before is None:  # no client can go there, as with an invalid port or host
        assert after in {None, "gateway.example"}
    else:
        assert after == ("gateway.example" if before == "api.openai.com" else before)


def _followed(reference: str) -> str | None:
    """Return the host to which a browser goes (WHATWG URL, of http and https), as far as these pieces need it."""
    text = reference.strip(" ").replace("\t", "").replace("\\", "/")
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in {"http", "https"}:
        if not rest.startswith("/"):
            return None  # depends on the scheme of the base
        text = "//" + rest.lstrip("/")
    elif text.startswith("//"):
        text = "//" + text.lstrip("/")
    else:
        return "gateway.example"
    authority = text[2:].replace("?", "/").replace("#", "/").partition("/")[0]
    host, _, port = authority.rpartition("@")[2].partition(":")
    if port in {"", "80", "443"} and not set("[]") & set(host):
        return host.replace("%2e", ".").lower().rstrip(".")
    return None
