"""The forms of DATABASE_URL. It is read without the database's code, which the supervisor does not load."""

import re
from pathlib import Path

_POSTGRESQL = ("postgresql", "postgres")

_PORT = re.compile(r"[0-9]{0,5}")

_HINT = (
    "cannot be read. Where the password has a sign that means something in a URL, or a blank, "
    "write that as %XX: @ as %40, / as %2F, : as %3A, # as %23, ? as %3F, % as %25, a blank as %20"
)


def check(url: str) -> str:
    """Return a URL as it is. Raises ValueError, whose text never quotes it: it may hold a password."""
    if is_postgresql(url):
        _check_postgresql(url)
    else:
        sqlite_path(url)
    return url


def is_postgresql(url: str) -> bool:
    """Tell whether a URL is for PostgreSQL, by its scheme."""
    return url.partition("://")[0] in _POSTGRESQL


def sqlite_path(url: str) -> Path:
    """Return the path, unchanged: a file's name may hold '?', '#' or '%'. Raises ValueError."""
    scheme, _, path = url.partition("///")
    if scheme != "sqlite:" or not Path(path).name:
        raise ValueError(
            "must be sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/database"
        )
    if path == ":memory:":
        raise ValueError("must name a file: two processes share the store")
    return Path(path)


def sqlite_url(path: Path) -> str:
    """Return the URL of a file."""
    return f"sqlite:///{path}"


def without_password(url: str) -> str:
    """Return a URL that `check` has passed as a message may show it: PostgreSQL's hosts and database alone."""
    return f"postgresql://{_hosts_and_database(url)}" if is_postgresql(url) else url


def _check_postgresql(url: str) -> None:
    from psycopg import Error, conninfo  # noqa: PLC0415 - the driver loads only where it is used

    try:
        options = conninfo.conninfo_to_dict(url)
    except (Error, UnicodeError):  # their texts quote parts of the URL
        raise ValueError(_HINT) from None
    ports = str(options.get("port", "")).split(",")
    # A password that is cut short by one of its own signs leaves its rest in one of these.
    if "@" in _hosts_and_database(url) or not all(_PORT.fullmatch(port) for port in ports):
        raise ValueError(_HINT)
    if not options.get("dbname"):
        raise ValueError("must name a database: postgresql://user:password@host/database")


def _hosts_and_database(url: str) -> str:
    """Return the part of a URL after its user, as PostgreSQL's library finds it: a user ends at the first '@'."""
    rest = url.partition("://")[2]
    user, at, after = rest.partition("@")
    return (after if at and "/" not in user else rest).partition("?")[0]
