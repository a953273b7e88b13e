import traceback
from pathlib import Path

import pytest

from store.runtime import database_url
from store.runtime.database_url import without_password

HINT = "write that as %XX"

PASSWORDS = [
    *("hush@word", "hush/word", "12/hush", "hush%word", "hush word", "hush@a:b/c", "hush?a/b", "1?a=b/hush", "@", "/"),
    *("5432/hush?port=1", "hush@host?host=b", "hush@h?port=1", "hush[/word", "hush\\@word", "hush\udcffword"),
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("rest", ["db1,db2:6432/gateway?sslmode=disable", "[::1]:5432/gateway"])
def test_a_password_that_has_to_be_encoded_is_hinted_at_and_not_quoted(password: str, rest: str) -> None:
    with pytest.raises(ValueError, match=r"%XX|must name a database") as caught:
        database_url.check(f"postgresql://gateway:{password}@{rest}")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("password", ["hush:word", "hush#word", "hush?word", "hush[word", "h%40u%2Fs%25h", "100%20"])
def test_a_password_that_is_read_as_it_is_meant_passes_and_is_left_out_of_messages(password: str) -> None:
    url = f"postgresql://gateway:{password}@db1:5432,[::1],db3/gateway?sslmode=disable&application_name=a@b"
    assert database_url.check(url) == url
    assert without_password(url) == "postgresql://db1:5432,[::1],db3/gateway"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql:///gateway?host=/run/postgresql&password=hush", "postgresql:///gateway"),
        ("postgres://%2Frun%2Fpostgresql/gateway?user=a@b", "postgresql://%2Frun%2Fpostgresql/gateway"),
        ("postgresql://host?dbname=gateway&password=hush", "postgresql://host"),
        ("sqlite:///a@b?c#d.db", "sqlite:///a@b?c#d.db"),
    ],
)
def test_other_urls_of_databases_pass(url: str, shown: str) -> None:
    assert database_url.check(url) == url
    assert without_password(url) == shown


@pytest.mark.parametrize("port", ["hush", "5432x", "-1", "123456"])
def test_a_port_has_to_be_a_number(port: str) -> None:
    for url in (f"postgresql://host:{port}/gateway", f"postgresql://host/gateway?port={port}"):
        with pytest.raises(ValueError, match=HINT) as caught:
            database_url.check(url)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://gateway:hush@host", "must name a database"),
        ("mysql://gateway:hush@host/gateway", "must be sqlite:///"),
        ("gateway:hush@host/gateway", "must be sqlite:///"),
        ("host=host password=hush dbname=gateway", "must be sqlite:///"),
        ("postgresql://gateway:hush@host/gateway?sslmod=disable&hush", HINT),
    ],
)
def test_a_text_that_is_no_database_url_is_rejected_without_quoting_it(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        database_url.check(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("path", ["relative/a b.db", "/absolute/a?b#c%d.db"])
def test_a_file_has_a_url(path: str) -> None:
    assert database_url.sqlite_path(database_url.sqlite_url(Path(path))) == Path(path)
