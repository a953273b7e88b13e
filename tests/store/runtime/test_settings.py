import base64
import logging
import ssl
from pathlib import Path

import pytest
from support.network.certificates import Authority

from store.encryption.crypto import new_key
from store.errors import StartupError
from store.runtime.lifecycle import SUPERVISED
from store.runtime.settings import Listen, Settings, Upstream

KEY = base64.b64encode(bytes(32)).decode()
SECRET = "hush-hush"


def faults() -> list[str]:
    """Load bad settings, and return the message of each fault."""
    with pytest.raises(StartupError) as caught:
        Settings.load()
    title, *lines = str(caught.value).splitlines()
    assert title == "Bad settings:"
    assert [line[:2] for line in lines] == ["  "] * len(lines)
    assert SECRET not in str(caught.value)
    return [line[2:] for line in lines]


def test_defaults_serve_on_loopback_for_openai() -> None:
    settings = Settings.load()
    assert settings.upstream == ("https", "api.openai.com", 443, "")
    assert (settings.proxy, settings.manage, settings.web) == (
        ("127.0.0.1", 8080),
        ("127.0.0.1", 8081),
        ("127.0.0.1", 8082),
    )
    assert settings.store_url == f"sqlite:///{Path('data').absolute() / 'llm-proxy.db'}"
    assert settings.mitmproxy_dir == Path("data").absolute() / "mitmproxy"
    assert settings.management_token is None
    assert settings.encryption_key is None
    assert settings.log_threshold == logging.INFO


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PROXY_LISTEN=127.0.0.1:1\nMANAGE_LISTEN=127.0.0.1:2\n")
    monkeypatch.setenv("PROXY_LISTEN", "127.0.0.1:3")
    settings = Settings.load()
    assert (settings.proxy.port, settings.manage.port) == (3, 2)


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_URL", "")
    monkeypatch.setenv("MANAGEMENT_TOKEN", "")
    settings = Settings.load()
    assert settings.upstream.host == "api.openai.com"
    assert settings.management_token is None


def test_every_fault_is_reported_at_once_and_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "this-is-secret"
    faults = {
        "UPSTREAM_URL": f"https://user:{secret}@api.openai.com",
        "PROXY_LISTEN": "8080",
        "MANAGEMENT_TOKEN": f"{secret} with blanks",
        "ENCRYPTION_KEY": secret,
        "STORE_TIMEOUT": "0",
        "CONNECT_TIMEOUT": "inf",
        "FIRST_BYTE_TIMEOUT": "nan",
        "DRAIN_TIMEOUT": secret,
        "WEB_FLOWS": "0",
        "WEB_BODY_COPY": "-1",
        "LOG_LEVEL": secret,
    }
    for name, value in faults.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as caught:
        Settings.load()
    message = str(caught.value)
    assert [line.split()[0] for line in message.splitlines()[1:]] == [
        name.upper() for name in Settings.model_fields if name.upper() in faults
    ]
    assert secret not in message
    assert caught.value.__suppress_context__  # a traceback would show the values that pydantic saw


def test_faults_of_the_file_of_names_and_of_values_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"{SECRET}\nDATABSE_URL={SECRET}\nLOG_FORMAT={SECRET}\nMAX_BODY=0\n")
    monkeypatch.setenv("UPSTREAM_ULR", SECRET)
    monkeypatch.setenv("MAX_BODY", "1")
    assert [fault.split(":")[0] for fault in faults()] == [
        ".env line 1 cannot be read",
        "DATABSE_URL in .env is no setting, and DATABASE_URL is not set",
        "UPSTREAM_ULR in the environment is no setting, and UPSTREAM_URL is not set",
        "LOG_FORMAT must be console or json, in small letters",
    ]


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_setting_beside_its_slip_lets_it_pass(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    assert len(faults()) == 1
    if source == "environment":
        monkeypatch.setenv("log_level", "error")
    else:
        Path(".env").write_text("Log_Level=error\n")
    assert Settings.load().log_level == "error"
    monkeypatch.setenv("LOG_LEVEL", "")
    Path(".env").write_text("LOG_LEVEL=\n")
    monkeypatch.delenv("log_level", raising=False)
    assert len(faults()) == 1  # an empty variable is not set


def test_a_file_that_cannot_be_read_is_a_fault_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").mkdir()
    monkeypatch.setenv("WORKERS", "many")
    assert faults() == [".env cannot be read: Is a directory", "WORKERS must be a whole number from 1 to 256"]


def test_other_names_of_the_file_are_warned_of_once_without_values(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path(".env").write_text(f"COMPOSE_FILE={SECRET}\nUPSTREAM_URL=http://host\nx.y={SECRET}\nDATABASE=\nworkers=2\n")
    monkeypatch.setenv("ANYTHING", SECRET)
    settings = Settings.load()
    assert (settings.upstream.host, settings.workers) == ("host", 2)
    settings.warn()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "names in .env that are no settings: COMPOSE_FILE, line 3, DATABASE")
    ]
    monkeypatch.setenv(SUPERVISED, "1")
    settings.warn()
    assert len(caplog.records) == 1


def test_without_other_names_there_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text("# nothing\nMAX_BODY=5\n")
    Settings.load().warn()
    assert caplog.records == []


WORDS = {
    "WORKERS": "must be a whole number from 1 to 256",
    "WEB_FLOWS": "must be a whole number of at least 1",
    "WEB_BODY_COPY": "must be a whole number of at least 0",
    "LEDGER_DAYS": "must be a whole number from 1 to 36500",
    "CONNECT_TIMEOUT": "must be a number of seconds above 0, such as 2 or 0.5",
    "FIRST_BYTE_TIMEOUT": "must be a number of seconds above 0, such as 2 or 0.5",
    "IDLE_TIMEOUT": "must be a number of seconds above 0, such as 2 or 0.5",
    "STORE_TIMEOUT": "must be a number of seconds above 0, such as 2 or 0.5",
    "DRAIN_TIMEOUT": "must be a number of seconds above 0, such as 2 or 0.5",
    "MAX_BODY": "must be a whole number of at least 1",
    "LOG_LEVEL": "must be debug, info, warning or error, in small letters",
    "LOG_FORMAT": "must be console or json, in small letters",
}


@pytest.mark.parametrize("value", [SECRET, "-1", "nan", "inf", "9" * 5000, "\udcff", " "])
def test_values_that_are_no_numbers_and_no_choices_are_reported_in_our_words(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WORDS:
        monkeypatch.setenv(name, value)
    assert [fault for fault in faults() if "must differ" not in fault] == [
        f"{name} {words}" for name, words in WORDS.items()
    ]


def test_the_bounds_of_numbers_are_themselves_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, values in {"WORKERS": ("1", "256"), "LEDGER_DAYS": ("1", "36500"), "WEB_BODY_COPY": ("0",)}.items():
        for value in values:
            monkeypatch.setenv(name, value)
            assert getattr(Settings.load(), name.lower()) == int(value)


@pytest.mark.parametrize("value", ["0", "257", "36501", "1.5", "1e3"])
def test_a_number_beyond_its_bounds_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", value)
    assert faults() == [f"WORKERS {WORDS['WORKERS']}"]


@pytest.mark.parametrize("name", ["UPSTREAM_URL", "PROXY_LISTEN", "DATABASE_URL"])
@pytest.mark.parametrize(
    "url",
    [
        *(f"https://gateway:{SECRET}{sign}{SECRET}@host:1" for sign in "@/:#?%[] \u2100"),
        *(f"https://gateway:12/{SECRET}@host", f"https://gateway:{SECRET}"),
    ],
)
def test_no_message_quotes_a_part_of_a_password(name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"DATABASE_URL": url.replace("https", "postgresql"), "PROXY_LISTEN": url.removeprefix("https://")}
    monkeypatch.setenv(name, values.get(name, url))
    (fault,) = faults()
    assert fault.startswith(name)
    assert "gateway" not in fault


@pytest.mark.parametrize("key", [KEY[:-4], KEY[:-1], "é" * 44, f"{KEY},", f"{KEY},short", " ", "="])
def test_a_bad_encryption_key_is_explained(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", key)
    with pytest.raises(StartupError, match="ENCRYPTION_KEY each key must be base64 of 32 bytes"):
        Settings.load()


@pytest.mark.parametrize("token", ["x" * 15, "x" * 15 + "é", "xxxxxxxx xxxxxxxx", "x" * 16 + "\t", "x" * 16 + "\x7f"])
def test_a_management_token_must_fit_a_header_and_not_be_guessable(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANAGEMENT_TOKEN", token)
    with pytest.raises(StartupError, match="MANAGEMENT_TOKEN must have at least 16"):
        Settings.load()


def test_secrets_are_not_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)
    monkeypatch.setenv("MANAGEMENT_TOKEN", "a-management-token")
    settings = Settings.load()
    assert KEY not in repr(settings)
    assert "a-management-token" not in repr(settings)


def test_all_settings_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = Settings.load().shown
    assert {*unset} == {name.upper() for name in Settings.model_fields}
    names = ("MANAGEMENT_TOKEN", "ENCRYPTION_KEY", "HTTPS_PROXY", "HTTP_PROXY")
    assert {unset[name] for name in names} == {"not set"}
    assert (unset["LEDGER_DAYS"], unset["STORE_TIMEOUT"], unset["AUDIT_DAYS"]) == ("30", "2", "not set")
    assert unset["DATABASE_URL"].startswith("sqlite:///")
    monkeypatch.setenv("MANAGEMENT_TOKEN", "secret-token-0123456789")
    monkeypatch.setenv("ENCRYPTION_KEY", new_key())
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://secret-user:secret-word@proxy.example:3128")
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret-user:secret-word@db.example/gateway?password=secret")
    shown = Settings.load().shown
    assert {shown[name] for name in names} == {"set"}
    assert shown["DATABASE_URL"] == "postgresql://db.example/gateway"
    assert "secret" not in str(shown)


def test_an_encryption_key_may_be_a_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    other = base64.b64encode(b"x" * 32).decode()
    monkeypatch.setenv("ENCRYPTION_KEY", f"{KEY} , {other}")
    assert Settings.load().encryption_key is not None


@pytest.mark.parametrize(
    ("text", "host", "port", "written"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080"),
        ("[::1]:8080", "::1", 8080, "[::1]:8080"),
        ("localhost:1", "localhost", 1, "localhost:1"),
        ("0.0.0.0:65535", "0.0.0.0", 65535, "0.0.0.0:65535"),  # noqa: S104
    ],
)
def test_a_listen_address_is_host_and_port(text: str, host: str, port: int, written: str) -> None:
    listen = Listen.parse(text)
    assert listen == (host, port)
    assert str(listen) == written


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::1]:8080"),
        ("10.0.0.11:8080", "10.0.0.11:8080"),
    ],
)
def test_a_port_of_all_addresses_is_reached_at_loopback(text: str, address: str) -> None:
    assert Listen.parse(text).from_here == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "127.0.0.1:80/",
        "127.0.0.1:80?x",
        "127.0.0.1:80#x",
        "http://127.0.0.1:80",
        "user@127.0.0.1:80",
        "@127.0.0.1:80",
        "::1:8080",
        "[::1]",
        "[::1]8080",
        "[::1:8080",
        "[nonsense]:80",
        "127.0.0.1:80 ",
        " 127.0.0.1:80",
        "127.0.0.1 :80",
        "a..b:80",
        "proxy!:80",
    ],
)
def test_any_other_text_is_rejected_as_listen_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Listen.parse(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com", ("https", "api.openai.com", 443, "")),
        ("https://api.openai.com/", ("https", "api.openai.com", 443, "")),
        ("https://api.openai.com/v1", ("https", "api.openai.com", 443, "")),
        ("https://api.openai.com/v1/", ("https", "api.openai.com", 443, "")),
        ("http://localhost:11434", ("http", "localhost", 11434, "")),
        ("http://host", ("http", "host", 80, "")),
        ("HTTPS://Host/Base", ("https", "host", 443, "/Base")),
        ("https://host/openai", ("https", "host", 443, "/openai")),
        ("https://host/openai/", ("https", "host", 443, "/openai")),
        ("https://host/openai/v1", ("https", "host", 443, "/openai")),
        ("https://host/openai/v1/", ("https", "host", 443, "/openai")),
        ("https://host/apiv1", ("https", "host", 443, "/apiv1")),
        ("https://host/v1/openai", ("https", "host", 443, "/v1/openai")),
        ("https://host/v1/account/gateway/openai", ("https", "host", 443, "/v1/account/gateway/openai")),
        ("https://host/gateway/chat", ("https", "host", 443, "/gateway/chat")),
        ("https://host/models", ("https", "host", 443, "/models")),
        ("https://host/chat/completions-service", ("https", "host", 443, "/chat/completions-service")),
        ("https://host/embeddings/v1", ("https", "host", 443, "/embeddings")),  # a prefix that looks like an endpoint
        ("http://[::1]:9000/v1", ("http", "::1", 9000, "")),
    ],
)
def test_an_upstream_is_an_origin_and_a_prefix(url: str, expected: tuple[object, ...]) -> None:
    assert Upstream.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com",
        "//api.openai.com",
        "ftp://api.openai.com",
        "https://api..openai.com",
        "https://.openai.com",
        f"https://{'a' * 64}.com",
        f"https://{'a.' * 127}com",
        "https://",
        "https:///v1",
        "https://user@host",
        "https://user:password@host",
        "https://@host",
        "https://host?query",
        "https://host#fragment",
        "https://host:port",
        "https://host:65536",
        "https://host:0",
        "https://[::1",
        "https://ho st",
        "https://host ",
        "https://host/a b",
        "https://host/é",
    ],
)
def test_any_other_text_is_rejected_as_upstream(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Upstream.parse(url)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/chat/completions", "/v1/responses", "/v1/models", "/v1/models/gpt-4o", "/v1/chat", "/v1/embeddings/"),
        *("/chat/completions", "/completions", "/responses", "/api/openai/v1/chat/completions//", "/audio/speech"),
        *("/v1beta/openai/chat/completions", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
    ],
)
def test_an_endpoint_is_rejected_as_upstream(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_URL", f"https://host{path}")
    assert faults() == [
        "UPSTREAM_URL ends in an endpoint: set the base URL of the API, such as https://api.openai.com/v1"
    ]


@pytest.mark.parametrize("url", ["mysql://host/x", "x.db", "sqlite:///", "sqlite://", "sqlite:///:memory:"])
def test_a_database_url_must_name_a_file(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(StartupError, match="DATABASE_URL must"):
        Settings.load()


def test_faults_of_proxies_and_authorities_are_reported_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("no-certificate").write_text(SECRET)
    Path(".env").write_text(f"SSL_CERT_FILE=no-certificate\nhttp_proxy=socks5://{SECRET}@host\n")
    monkeypatch.setenv("UPSTREAM_CA_FILE", f"{SECRET}/missing.pem")
    monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@host:x")
    monkeypatch.setenv("MAX_BODY", "0")
    messages = faults()
    assert [fault.split(" ", 2)[:2] for fault in messages] == [
        ["UPSTREAM_CA_FILE", "cannot"],
        ["SSL_CERT_FILE", "holds"],
        ["HTTPS_PROXY", "must"],
        ["HTTP_PROXY", "must"],
        ["MAX_BODY", "must"],
    ]


def test_the_way_to_the_upstream_is_read_from_either_source_and_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def way(*, tls: bool) -> str:
        return str(Settings.load().ways.to("api.example", 443, tls=tls))

    Path(".env").write_text("HTTPS_PROXY=http://file:1\nhttp_proxy=file:2\nNo_Proxy=file.example\n")
    assert (way(tls=True), way(tls=False)) == ("file:1 (HTTPS_PROXY)", "file:2 (HTTP_PROXY)")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@upper:1")
    assert way(tls=True) == "upper:1 (HTTPS_PROXY)"
    monkeypatch.setenv("https_proxy", "lower:1")
    assert way(tls=True) == "lower:1 (HTTPS_PROXY)"
    monkeypatch.setenv("no_proxy", "api.example")
    assert way(tls=True) == "None"
    assert Settings.load().ways.to("file.example", 443, tls=True) is not None  # the environment has its own exceptions


def test_a_proxys_password_is_not_shown() -> None:
    settings = Settings(_env_file=None, https_proxy=f"http://user:{SECRET}@host", http_proxy=f"user:{SECRET}@host")
    assert SECRET not in repr(settings)
    assert SECRET not in repr(settings.ways)


def test_authorities_of_all_settings_are_trusted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        made.append(Authority(tmp_path / name).file)
    assert Settings.load().trusted_authorities == ()
    monkeypatch.setenv("UPSTREAM_CA_FILE", "one/authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", "two/authority.pem")
    Path(".env").write_text("SSL_CERT_DIR=three:missing:one\n")
    assert Settings.load().trusted_authorities == tuple(ssl.PEM_cert_to_DER_cert(file.read_text()) for file in made)


@pytest.mark.parametrize("name", ["UPSTREAM_CA_FILE", "SSL_CERT_FILE"])
def test_a_file_of_authorities_that_is_damaged_after_the_settings_were_read_is_named_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "good").mkdir()
    file, good = Authority(tmp_path).file, Authority(tmp_path / "good").file
    monkeypatch.setenv("UPSTREAM_CA_FILE", str(good))
    monkeypatch.setenv("SSL_CERT_FILE", str(good))
    monkeypatch.setenv(name, str(file))
    settings = Settings.load()
    file.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(StartupError, match=f"^{name} holds a certificate that is damaged\\.$"):
        _ = settings.trusted_authorities
    file.unlink()
    with pytest.raises(StartupError, match=f"^{name} cannot be read: No such file or directory\\.$"):
        _ = settings.trusted_authorities


def test_settings_of_other_programs_without_effect_are_warned_of_without_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Authority(tmp_path)
    monkeypatch.setenv("NO_PROXY", f"api.example,192.168.*,<{SECRET}>")
    monkeypatch.setenv("SSL_CERT_DIR", f"{SECRET}:{tmp_path}:{tmp_path / SECRET}")
    Settings.load().warn()
    assert [record.getMessage() for record in caplog.records] == [
        "entries of NO_PROXY that cannot be read, and have no effect: number 2, number 3",
        "folders of SSL_CERT_DIR without a certificate that can be read: number 1, number 3",
    ]


@pytest.mark.parametrize(
    ("value", "origins"),
    [("", set()), ("*", {"*"}), ("https://App.example, http://a:3", {"https://app.example", "http://a:3"})],
)
def test_origins_of_pages_are_read(value: str, origins: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", value)
    assert Settings.load().page_origins == origins


@pytest.mark.parametrize("value", [f"https://{SECRET}.example/", "null", f"*, https://{SECRET}.example"])
def test_a_bad_origin_is_a_fault_that_names_the_setting(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", value)
    (fault,) = faults()
    assert fault.startswith(("CORS_ORIGINS must ", "CORS_ORIGINS has "))


@pytest.mark.parametrize(
    ("listens", "origins"),
    [
        *(
            (listens, {"http://127.0.0.1:8081", "http://[::1]:8081", "http://localhost:8081"})
            for listens in ("127.0.0.1:8081", "[::1]:8081", "localhost:8081", "0.0.0.0:8081", "[::]:8081")
        ),
        ("127.0.0.1:80", {"http://127.0.0.1", "http://[::1]", "http://localhost"}),
        ("10.0.0.11:8081", {"http://10.0.0.11:8081"}),
        ("Node1.Internal:8081", {"http://node1.internal:8081"}),
    ],
)
def test_the_origins_of_a_port_are_those_of_its_names(listens: str, origins: set[str]) -> None:
    assert Listen.parse(listens).origins == origins
