"""Every setting, declared once: its name, its default, what it means. The README's table is tested against this.

A setting comes from the environment, then from a file `.env` in the working directory.
"""

import logging
import os
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.crypto import KeyRing
from store.database import urls
from store.errors import StartupError

_NAME = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_MAX_NAME = 253
_PORTS = {"http": 80, "https": 443}

type Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Listen(NamedTuple):
    """Where a port is opened."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port` or `[IPv6]:port`. Raises ValueError."""
        parts = urlsplit(f"//{text}")
        whole = _is_plain(text) and parts.netloc == text and parts.username is None
        if not whole or not parts.port or parts.hostname is None or not _is_host(parts.hostname):
            raise ValueError("must be host:port, such as 127.0.0.1:8080 or [::1]:8080")
        return cls(parts.hostname, parts.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Upstream(NamedTuple):
    """Where requests go: an origin, and a path prefix for its `/v1`."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def origin(self) -> str:
        """The URL without `/v1`, as it is usually written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an http or https URL. A path of it goes before `/v1`; one that ends in `/v1` replaces it.

        Raises ValueError.
        """
        parts = urlsplit(url)
        if not _is_plain(url) or parts.scheme not in {"http", "https"} or parts.port == 0:
            raise ValueError("must be a URL such as https://api.openai.com")
        if parts.hostname is None or not _is_host(parts.hostname):
            raise ValueError("must be a URL with a host's name or address, such as https://api.openai.com")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must have no user, query or fragment; the key belongs to a project")
        port = parts.port or _PORTS[parts.scheme]
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.scheme, parts.hostname, port, prefix)


def _is_host(name: str) -> bool:
    """Tell whether this can be a host: an IPv6 address, as `urlsplit` takes it, or a name that a resolver takes."""
    return ":" in name or (len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None)


def _is_plain(text: str) -> bool:
    """Tell whether a text can stand in a URL as it is. `urlsplit` takes blanks and drops line ends silently."""
    return text.isascii() and text.isprintable() and " " not in text


def _checked(parse: type[Listen | Upstream | KeyRing]) -> AfterValidator:
    def check(value: str | SecretStr) -> str | SecretStr:
        parse.parse(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    return AfterValidator(check)


def _database_url(value: str) -> str:
    return value and urls.check(value)


def bearer_text(value: SecretStr) -> SecretStr:
    """Return a management token as it is. Raises ValueError for one that no header takes, or that can be guessed."""
    text = value.get_secret_value()
    if len(text) < 16 or not text.isascii() or any(c.isspace() or not c.isprintable() for c in text):  # noqa: PLR2004
        raise ValueError("must have at least 16 printable ASCII characters and no blanks")
    return value


class Settings(BaseSettings):
    """The settings of both processes. `Settings.load()` is how a process reads them."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    upstream_url: Annotated[str, _checked(Upstream)] = Field(
        default="https://api.openai.com",
        description="The API that gets the requests. A path goes before `/v1`, or replaces it if it ends in `/v1`.",
    )
    proxy_listen: Annotated[str, _checked(Listen)] = Field(default="127.0.0.1:8080", description="The proxy's port.")
    manage_listen: Annotated[str, _checked(Listen)] = Field(
        default="127.0.0.1:8081", description="The management API's port."
    )
    workers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Processes of the proxy, under `./run.sh`; default: one for each core."
    )
    web_listen: Annotated[str, _checked(Listen)] = Field(
        default="127.0.0.1:8082", description="mitmweb's port (`./run.sh web`)."
    )
    web_flows: Annotated[int, Field(ge=1)] = Field(
        default=1000, description="Requests that mitmweb keeps, beside those under way."
    )
    web_body_copy: Annotated[int, Field(ge=0)] = Field(
        default=1024 * 1024, description="Bytes that mitmweb keeps of a streamed body, each way; `0` for none."
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="The folder for the database, the secrets made at the first start and mitmproxy's files.",
    )
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default="",
        repr=False,  # it may hold a password
        description="`sqlite:///…` or `postgresql://…`; default: `llm-proxy.db` in `DATA_DIR`.",
    )
    management_token: Annotated[SecretStr, AfterValidator(bearer_text)] | None = Field(
        default=None, description="Opens the management API; default: made at the first start, kept in `DATA_DIR`."
    )
    encryption_key: Annotated[SecretStr, _checked(KeyRing)] | None = Field(
        default=None,
        description="Base64 of 32 bytes; several, separated by commas: the first encrypts, all decrypt. "
        "Default: made at the first start, kept in `DATA_DIR`.",
    )
    ledger_days: Annotated[int, Field(ge=1, le=36500)] = Field(
        default=30, description="Days that the ledger keeps each request; the sums of a day stay for ever."
    )
    connect_timeout: Seconds = Field(default=10, description="Seconds for a connection to the upstream, TLS included.")
    first_byte_timeout: Seconds = Field(default=600, description="Seconds from the request to the upstream's headers.")
    idle_timeout: Seconds = Field(
        default=600,
        description="Seconds without a byte of a body, of a request or an answer; or on a connection without either.",
    )
    store_timeout: Seconds = Field(default=2, description="Seconds that a request waits for the store.")
    drain_timeout: Seconds = Field(default=30, description="Seconds that requests under way get to end at a stop.")
    max_body: int = Field(default=1024**3, gt=0, description="Bytes that a request's body may have.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="`debug`, `info`, `warning` or `error`; the log goes to stderr."
    )
    log_format: Literal["console", "json"] = Field(default="console", description="`console` or `json`.")

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if len({self.proxy_listen, self.manage_listen, self.web_listen}) < 3:  # noqa: PLR2004
            raise ValueError("PROXY_LISTEN, MANAGE_LISTEN and WEB_LISTEN must differ")
        return self

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Raises StartupError that names everything that is wrong at once, without values."""
        try:
            return cls()
        except ValidationError as error:
            faults = [
                f"  {' '.join(map(str, fault['loc'])).upper()} {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_input=False)
            ]
            raise StartupError("\n".join(["Bad settings:", *faults])) from None
        except OSError as error:
            raise StartupError(f"Bad settings:\n  .env cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise StartupError("Bad settings:\n  .env is no text in UTF-8") from None

    @property
    def upstream(self) -> Upstream:
        """UPSTREAM_URL, taken apart."""
        return Upstream.parse(self.upstream_url)

    @property
    def proxy(self) -> Listen:
        """PROXY_LISTEN, taken apart."""
        return Listen.parse(self.proxy_listen)

    @property
    def manage(self) -> Listen:
        """MANAGE_LISTEN, taken apart."""
        return Listen.parse(self.manage_listen)

    @property
    def web(self) -> Listen:
        """WEB_LISTEN, taken apart."""
        return Listen.parse(self.web_listen)

    @property
    def worker_count(self) -> int:
        """WORKERS, or the number of cores that this process may use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.workers or cores or 1

    @property
    def mitmproxy_dir(self) -> Path:
        """The folder for mitmproxy's certificates and its config.yaml."""
        return self.data_dir.absolute() / "mitmproxy"

    @property
    def store_url(self) -> str:
        """DATABASE_URL, or the default file in DATA_DIR."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'llm-proxy.db'}"

    @property
    def log_threshold(self) -> int:
        """LOG_LEVEL as a number of the `logging` module."""
        return logging.getLevelNamesMapping()[self.log_level.upper()]
