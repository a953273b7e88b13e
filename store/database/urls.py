"""What DATABASE_URL may be."""

from pathlib import Path
from urllib.parse import urlsplit

_POSTGRESQL = ("postgresql", "postgres")


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
    """Take the path out as it is: a file's name may hold '?', '#' or '%'. Raises ValueError."""
    scheme, _, path = url.partition("///")
    if scheme != "sqlite:" or not Path(path).name:
        raise ValueError(
            "must be sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/database"
        )
    if path == ":memory:":
        raise ValueError("must name a file: two processes share the store")
    return Path(path)


def without_password(url: str) -> str:
    """Return a URL for a message: of PostgreSQL's only the hosts and the database."""
    if not is_postgresql(url):
        return url
    parts = urlsplit(url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_postgresql(url: str) -> None:
    from psycopg import Error, conninfo  # noqa: PLC0415 - the driver is for those who use it

    try:
        options = conninfo.conninfo_to_dict(url)
    except Error:
        raise ValueError(
            "is no URL that PostgreSQL's library reads; what has a meaning in URLs, as '@' in a password, "
            "is written with %XX"
        ) from None
    if not options.get("dbname"):
        raise ValueError("must name a database: postgresql://user:password@host/database")
