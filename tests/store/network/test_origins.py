import pytest

from store.network.origins import parse_origins


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" ", set()),
        ("*", {"*"}),
        (" * ", {"*"}),
        ("https://app.example", {"https://app.example"}),
        ("https://app.example, http://localhost:3000", {"https://app.example", "http://localhost:3000"}),
        ("HTTPS://App.Example", {"https://app.example"}),
        ("https://app.example:443,http://app.example:80", {"https://app.example", "http://app.example"}),
        ("https://app.example:80,http://app.example:443", {"https://app.example:80", "http://app.example:443"}),
        ("http://[::1]:3000,http://[::1]", {"http://[::1]:3000", "http://[::1]"}),
        ("https://xn--bcher-kva.example", {"https://xn--bcher-kva.example"}),
        ("chrome-extension://abcdefghijklmnop", {"chrome-extension://abcdefghijklmnop"}),
    ],
)
def test_origins_are_read_as_browsers_write_them(text: str, origins: set[str]) -> None:
    assert parse_origins(text) == origins


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://hush.example/", "not even a / at its end"),
        ("https://hush.example/path", "no path"),
        ("https://hush.example?a=b", "no path"),
        ("https://hush.example#a", "no path"),
        ("null", "null"),
        ("NULL", "null"),
        ("*,https://hush.example", "all of them"),
        ("https://*.hush.example", "has no meaning"),
        ("https://hush.example:*", "has no meaning"),
        ("hush.example", "must be origins such as"),
        ("localhost:3000", "must be origins such as"),
        ("//hush.example", "must be origins such as"),
        ("https://", "must be origins such as"),
        ("https:///path", "must be origins such as"),
        ("file:///hush", "must be origins such as"),
        ("https://hush.example:0", "must be origins such as"),
        ("https://hush.example:99999", "must be origins such as"),
        ("https://hush.example,", "must be origins such as"),
        ("https://a.example https://hush.example", "must be origins such as"),
        ("https://b\u00fccher.example", "must be origins such as"),
        ("https://user:hush@app.example", "no password"),
    ],
)
def test_a_text_that_no_browser_sends_is_refused_without_being_quoted(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("/", r"\/")) as caught:
        parse_origins(text)
    assert "hush" not in str(caught.value)
