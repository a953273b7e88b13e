"""Every setting, declared once: name, default and meaning. The table of docs/configuration.md is tested against this.

A setting comes from the environment, then from a file `.env` in the working directory.
"""

import itertools
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.encryption.crypto import KeyRing
from store.errors import StartupError
from store.network import authorities
from store.network.addresses import Network, address, hostport, is_host, split_url
from store.network.client_address import parse_networks
from store.network.forward_proxy import Exceptions, ForwardProxy, Ways
from store.network.origins import parse_origins
from store.runtime import data_folder, database_url, env_file, setting_names
from store.runtime.lifecycle import SUPERVISED

_PORTS = {"http": 80, "https": 443}

_ENDPOINT = re.compile(
    r"/v1/(assistants|audio|batches|chat|completions|conversations|embeddings|files|fine_tuning|images|messages|models"
    r"|moderations|realtime|rerank|responses|threads|uploads|vector_stores|videos)(/.*)?$"
    r"|/(completions|responses|embeddings|moderations|audio/(speech|transcriptions|translations)"
    r"|images/(generations|edits|variations))$"
)
"""Ends of paths that are no base of an API. A prefix that only looks like one can be set with `/v1` behind it."""

_ENV_FILE = Path(".env")

_log = logging.getLogger(__name__)


def _expecting(words: str, holds: Callable[[Any], bool] = lambda _: True) -> WrapValidator:
    """Read a value by its type. `words` are the error where that fails, or `holds` is false."""

    def check(value: object, read: ValidatorFunctionWrapHandler) -> object:
        try:
            found = read(value)
        except ValidationError:
            raise ValueError(words) from None
        if not holds(found):
            raise ValueError(words)
        return found

    return WrapValidator(check)


def _whole(least: int, most: int | None = None) -> WrapValidator:
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    return _expecting(
        f"must be a whole number {bounds}", lambda number: least <= number and (most is None or number <= most)
    )


type Seconds = Annotated[
    float, _expecting("must be a number of seconds above 0, such as 2 or 0.5", lambda number: 0 < number < math.inf)
]


class Listen(NamedTuple):
    """The address of a port to open."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port` or `[IPv6]:port`. Raises ValueError, whose text quotes nothing."""
        parts = split_url(f"//{text}")
        is_whole = parts is not None and parts.netloc == text and parts.username is None
        if parts is None or not is_whole or not parts.port or parts.hostname is None or not is_host(parts.hostname):
            raise ValueError("must be host:port, such as 127.0.0.1:8080 or [::1]:8080")
        return cls(parts.hostname, parts.port)

    @property
    def is_local(self) -> bool:
        """True if this machine reaches it by loopback: it listens there, or on all interfaces."""
        found = address(self.host)
        return self.host == "localhost" or (found is not None and (found.is_loopback or found.is_unspecified))

    @property
    def origins(self) -> frozenset[str]:
        """The origins of pages that are served there, as CORS_ORIGINS would list them."""
        hosts = ("127.0.0.1", "::1", "localhost") if self.is_local else (self.host,)
        return parse_origins(",".join(f"http://{hostport(host, self.port)}" for host in hosts))

    @property
    def from_here(self) -> str:
        """The address at which this machine reaches the port: one that stands for all addresses is no place to ask."""
        return hostport({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)  # noqa: S104

    def __str__(self) -> str:
        return hostport(self.host, self.port)


class Upstream(NamedTuple):
    """The upstream of requests: an origin, and a path prefix for its `/v1`."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def origin(self) -> str:
        """The URL without `/v1`, in its usual spelling."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an http or https URL. A path of it goes before `/v1`; one that ends in `/v1` replaces it.

        Raises ValueError, whose text quotes nothing.
        """
        if "@" in url:  # anywhere: a password that is not encoded moves the parts of the URL
            raise ValueError(
                "must have no user and no password: the key belongs to a project (write @ in a path as %40)"
            )
        parts = split_url(url)
        if parts is None or parts.scheme not in {"http", "https"} or parts.port == 0:
            raise ValueError("must be a URL such as https://api.openai.com")
        if parts.hostname is None or not is_host(parts.hostname):
            raise ValueError("must be a URL with a host's name or address, such as https://api.openai.com")
        path = parts.path.rstrip("/")
        if not path.endswith("/v1") and _ENDPOINT.search(path):
            raise ValueError("ends in an endpoint: set the base URL of the API, such as https://api.openai.com/v1")
        if parts.query or parts.fragment:
            raise ValueError("must have no query and no fragment")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], path.removesuffix("/v1"))


def _checked(parse: type[Listen | Upstream | KeyRing]) -> AfterValidator:
    def check(value: str | SecretStr) -> str | SecretStr:
        parse.parse(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    return AfterValidator(check)


def _forward_proxy(name: str) -> AfterValidator:
    def check(value: str) -> str:
        ForwardProxy.parse(value, name)
        return value

    return AfterValidator(check)


def _authorities(path: Path) -> Path:
    authorities.of_file(path)
    return path


def _certificates(setting: str, path: Path | None) -> Sequence[bytes]:
    """Return the certificates of a setting's file, as DER. Raises StartupError that names the setting."""
    try:
        return authorities.of_file(path) if path else ()
    except ValueError as error:
        raise StartupError(f"{setting} {error}.") from None


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(f"number {number}" for number in numbers)


def _database_url(value: str) -> str:
    return value and database_url.check(value)


def _trusted_proxies(value: str) -> str:
    parse_networks(value)
    return value


def _cors_origins(value: str) -> str:
    parse_origins(value)
    return value


def bearer_text(value: SecretStr) -> SecretStr:
    """Return a management token as it is. Raises ValueError for one that no header can hold, or that can be guessed."""
    text = value.get_secret_value()
    if len(text) < 16 or not text.isascii() or any(c.isspace() or not c.isprintable() for c in text):  # noqa: PLR2004
        raise ValueError("must have at least 16 printable ASCII characters and no blanks")
    return value


class Settings(BaseSettings):
    """The settings of both processes, which read them by `Settings.load()`."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    upstream_url: Annotated[str, _checked(Upstream)] = Field(
        default="https://api.openai.com",
        description="The API that gets the requests. A path goes before `/v1`, or replaces it if it ends in `/v1`.",
    )
    upstream_ca_file: Annotated[Path, AfterValidator(_authorities)] | None = Field(
        default=None,
        description="A PEM file of certificate authorities, [trusted beside the usual ones](#behind-a-companys-proxy) "
        "for the upstream's certificate.",
    )
    ssl_cert_file: Annotated[Path, AfterValidator(_authorities)] | None = Field(
        default=None, description="One more such file; the name that other programs know."
    )
    ssl_cert_dir: str = Field(default="", description="Folders with such files, separated by colons.")
    https_proxy: Annotated[str, _forward_proxy("HTTPS_PROXY")] | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="The [proxy on the way](#behind-a-companys-proxy) to an https upstream, "
        "such as `http://user:password@proxy.example:3128`.",
    )
    http_proxy: Annotated[str, _forward_proxy("HTTP_PROXY")] | None = Field(
        default=None, repr=False, description="The same, to an http upstream."
    )
    no_proxy: str = Field(
        default="",
        description="Hosts that are connected to without a proxy, separated by commas: "
        "`example.com` (and all below it), `10.0.0.0/8`, `host:8443`, or `*` for all.",
    )
    proxy_listen: Annotated[str, _checked(Listen)] = Field(default="127.0.0.1:8080", description="The proxy's port.")
    manage_listen: Annotated[str, _checked(Listen)] = Field(
        default="127.0.0.1:8081", description="The management API's port."
    )
    trusted_proxies: Annotated[str, AfterValidator(_trusted_proxies)] = Field(
        default="",
        description="Addresses and networks (`10.0.0.0/8`), separated by commas, whose `X-Forwarded-For` tells the "
        "client's address; default: none.",
    )
    cors_origins: Annotated[str, AfterValidator(_cors_origins)] = Field(
        default="",
        description="Origins (`https://app.example, http://localhost:3000`) whose "
        "[pages in browsers](reference/compatibility.md#pages-in-browsers) may use the proxy, or `*` for all; "
        "default: none.",
    )
    workers: Annotated[int, _whole(1, 256)] | None = Field(
        default=None, description="Processes of the proxy, under `./run.sh`; default: one for each core."
    )
    web_listen: Annotated[str, _checked(Listen)] = Field(
        default="127.0.0.1:8082", description="mitmweb's port (`./run.sh web`)."
    )
    web_flows: Annotated[int, _whole(1)] = Field(
        default=1000, description="Requests that mitmweb keeps, beside those under way."
    )
    web_body_copy: Annotated[int, _whole(0)] = Field(
        default=1024 * 1024, description="Bytes that mitmweb keeps of a streamed body, each way; `0` for none."
    )
    data_dir: Path = Field(
        default=data_folder.default(),
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
    ledger_days: Annotated[int, _whole(1, 36500)] = Field(
        default=30,
        description="Days that the ledger keeps each request; sums of hours stay for at least 400 days, sums of days "
        "for ever.",
    )
    audit_days: Annotated[int, _whole(1, 36500)] | None = Field(
        default=None, description="Days that the [audit](security.md#the-audit) is kept; default: for ever."
    )
    connect_timeout: Seconds = Field(default=10, description="Seconds for a connection to the upstream, TLS included.")
    first_byte_timeout: Seconds = Field(default=600, description="Seconds from the request to the upstream's headers.")
    idle_timeout: Seconds = Field(
        default=600,
        description="Seconds without a byte of a body, of a request or an answer; or on a connection without either.",
    )
    store_timeout: Seconds = Field(default=2, description="Seconds that a request waits for the store.")
    drain_timeout: Seconds = Field(default=30, description="Seconds that requests under way get to end at a stop.")
    max_body: Annotated[int, _whole(1)] = Field(default=1024**3, description="Bytes that a request's body may have.")
    max_spool: Annotated[int, _whole(1)] = Field(
        default=64 * 1024**2,
        description="Bytes that a body may have which a token's policies need to see before the request is admitted. "
        "From 1 MiB on such a body is kept in an unnamed file in the temporary folder (`TMPDIR`) until it is sent.",
    )
    reserve_output_tokens: Annotated[int, _whole(1, 10**9)] = Field(
        default=4096,
        description="Tokens of output that limits of tokens and budgets reserve for a request which sets no bound "
        "itself.",
    )
    plain_path: Annotated[Literal["on", "off"], _expecting("must be on or off, in small letters")] = Field(
        default="on",
        description="`off` has mitmproxy's own layers carry every request, at more than twice the CPU: for tests and "
        "emergencies.",
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _expecting("must be debug, info, warning or error, in small letters"),
    ] = Field(default="info", description="`debug`, `info`, `warning` or `error`; the log goes to stderr.")
    log_format: Annotated[Literal["console", "json"], _expecting("must be console or json, in small letters")] = Field(
        default="console", description="`console` or `json`."
    )

    _unknown: tuple[str, ...] = PrivateAttr(default=())
    """The names in `.env` that are no settings, as a message may show them."""

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if len({self.proxy_listen, self.manage_listen, self.web_listen}) < 3:  # noqa: PLR2004
            raise ValueError("PROXY_LISTEN, MANAGE_LISTEN and WEB_LISTEN must differ")
        return self

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Raises one StartupError for all faults, which quotes no values."""
        names = cls.model_fields
        file = env_file.read(_ENV_FILE)
        values: dict[str, Any] = setting_names.given(file.values, names)
        environment = setting_names.given(os.environ, names)
        missing = [name for name in names if name not in values and name not in environment]
        faults = [
            *file.faults,
            *setting_names.slips(file.values, str(_ENV_FILE), names, missing),
            *setting_names.slips(os.environ, "the environment", names, missing),
        ]
        try:
            settings = cls(**{**values, **environment})
        except ValidationError as error:
            faults += [
                f"{' '.join(map(str, fault['loc'])).upper()} {fault['msg'].removeprefix('Value error, ')}".lstrip()
                for fault in error.errors(include_input=False)
            ]
        if faults:
            raise StartupError("\n  ".join(["Bad settings:", *faults])) from None
        settings._unknown = tuple(file.shown(name) for name in file.values if name.lower() not in names)
        return settings

    def warn(self) -> None:
        """Log what has no effect, but is no fault; once for all processes under a supervisor.

        Other programs read the same file and the same variables: names in `.env` that are no settings, entries of
        NO_PROXY in another's spelling, folders of SSL_CERT_DIR that are not on this machine.
        """
        if os.environ.get(SUPERVISED):
            return
        if self._unknown:
            _log.warning("names in %s that are no settings: %s", _ENV_FILE, ", ".join(self._unknown))
        if unread := Exceptions(self.no_proxy).unread:
            _log.warning("entries of NO_PROXY that cannot be read, and have no effect: %s", _numbers(unread))
        folders = authorities.folders(self.ssl_cert_dir)
        if empty := [number for number, one in enumerate(folders, 1) if authorities.is_empty(one)]:
            _log.warning("folders of SSL_CERT_DIR without a certificate that can be read: %s", _numbers(empty))

    @property
    def shown(self) -> Mapping[str, str]:
        """All settings by their names, as an operator may see them: of a secret only whether it is set."""
        return {name.upper(): self._shown(name) for name in type(self).model_fields}

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        if name == "database_url":
            return database_url.without_password(self.store_url)
        if value in {None, ""}:
            return "not set"
        is_secret = isinstance(value, SecretStr) or not type(self).model_fields[name].repr
        if is_secret:
            return "set"
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def trusted_authorities(self) -> Sequence[bytes]:
        """The certificates, as DER, of UPSTREAM_CA_FILE, SSL_CERT_FILE and SSL_CERT_DIR.

        Raises StartupError where a file is damaged or gone since the settings were read.
        """
        files = [
            *_certificates("UPSTREAM_CA_FILE", self.upstream_ca_file),
            *_certificates("SSL_CERT_FILE", self.ssl_cert_file),
        ]
        folders = authorities.of_folders(authorities.folders(self.ssl_cert_dir))
        return tuple(dict.fromkeys(itertools.chain(files, folders)))

    @property
    def ways(self) -> Ways:
        """HTTPS_PROXY, HTTP_PROXY and NO_PROXY, taken apart."""
        return Ways(
            ForwardProxy.parse(self.https_proxy, "HTTPS_PROXY") if self.https_proxy else None,
            ForwardProxy.parse(self.http_proxy, "HTTP_PROXY") if self.http_proxy else None,
            Exceptions(self.no_proxy),
        )

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
    def trusted_networks(self) -> Sequence[Network]:
        """TRUSTED_PROXIES, taken apart."""
        return parse_networks(self.trusted_proxies)

    @property
    def page_origins(self) -> frozenset[str]:
        """CORS_ORIGINS, taken apart; `*` alone stands for all."""
        return parse_origins(self.cors_origins)

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
