"""Masks secrets in texts that are shown: log lines, the ledger's paths and models, error messages.

The only place that knows what a secret looks like. A text is masked before it is cut or quoted.
"""

import re


def _uuid(version: str = "[0-9a-f]", variant: str = "[0-9a-f]") -> str:
    """Return the pattern of a UUID in lower case, with or without its hyphens."""
    return f"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}"


_TOKEN = _uuid("4", "[89ab]")
_API_KEY = r"sk-[\w-]{8,}"

ADMIN_TOKEN = "llmp_admin_"  # noqa: S105 - the beginning of every token of an administrator
_ADMIN_TOKEN = rf"{ADMIN_TOKEN}[0-9a-f]{{8,}}"

_SECRET = re.compile(f"{_TOKEN}|{_API_KEY}|{_ADMIN_TOKEN}", re.IGNORECASE)
_SECRET_AMONG_WORDS = re.compile(f"{_TOKEN}|(?<![a-z0-9]){_API_KEY}|{_ADMIN_TOKEN}", re.IGNORECASE)
_UUID = re.compile(_uuid(), re.IGNORECASE)
_TOKEN_IN_PATH = re.compile(
    r"(?<=/manage/tokens/)[^/?\s\"']+"
    # A token where none belongs, such as /manage/token/<token>: any UUID in a path that is not a project's.
    rf"|(?<=/)(?<!/projects/){_uuid()}|{_ADMIN_TOKEN}",
    re.IGNORECASE,
)
_QUOTED_BYTES = re.compile(r"""\bb(['"]).*\1|\b[0-9a-f]{32,}\b""", re.DOTALL)
_LOGIN = re.compile(r"(?<=[?&]token=)[^&\s]+")


def mask_secrets(text: str) -> str:
    """Replace everything with the form of a token or an API key by `***`: callers put them where none belongs."""
    return _SECRET.sub("***", text)


def mask_words(text: str) -> str:
    """Replace what `contains_secret` finds in a text that people write by `***`."""
    return _SECRET_AMONG_WORDS.sub("***", text)


def contains_secret(text: str) -> bool:
    """Tell whether something in a text that people write has the form of a token or an API key.

    A key begins a word there: "helpdesk-assistant" contains none.
    """
    return _SECRET_AMONG_WORDS.search(text) is not None


def mask_token_paths(text: str) -> str:
    """Replace each token in a path by `<token>`; ids of projects in paths of the management API stay."""
    return _TOKEN_IN_PATH.sub("<token>", text)


def mask_uuids(text: str) -> str:
    """Replace every UUID by `<uuid>`."""
    return _UUID.sub("<uuid>", text)


def strip_quoted_bytes(text: str) -> str:
    """Replace what a peer sent by `<bytes>`: the `repr` of bytes, and hexadecimal of 16 bytes or more."""
    return _QUOTED_BYTES.sub("<bytes>", text)


def mask_login(text: str) -> str:
    """Replace mitmweb's login in a URL by `...`: it allows to run code."""
    return _LOGIN.sub("...", text)
