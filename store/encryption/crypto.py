"""What is secret in the store, and how it is kept.

A `KeyRing` encrypts with AES-256-GCM: its first key encrypts, each key decrypts, so that keys can be replaced
while the store is in use. A `Vault` says what is encrypted with it, and finds tokens by an HMAC.

Layout of a ciphertext: version (1 byte, 1), key id (4), nonce (12), ciphertext and tag (16). The first five bytes
and the name of the place that the ciphertext belongs to (table, column, row) are its associated data: moved to
another row it does not decrypt.
"""

import base64
import enum
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZE = 32
_VERSION = b"\x01"
_KEY_ID_SIZE = 4
_NONCE_SIZE = 12
HEADER_SIZE = len(_VERSION) + _KEY_ID_SIZE


class Place(enum.StrEnum):
    """The columns that hold ciphertexts; a row's place is one of these with its id."""

    API_KEY = "project:api_key"
    TOKEN = "token:value"  # noqa: S105 - a column
    SECRET = "secret:sealed"  # noqa: S105 - a column

    def of(self, row_id: str) -> str:
        """Return the place of one row."""
        return f"{self}:{row_id}"


class DecryptionError(Exception):
    """A ciphertext is damaged, belongs elsewhere, or needs a key that is not in the ring."""


def new_key() -> str:
    """Return a new key as it is written in ENCRYPTION_KEY: base64 of 32 random bytes."""
    return base64.b64encode(os.urandom(KEY_SIZE)).decode()


class KeyRing:
    """AES-256-GCM under several keys; see the module's text for the layout."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first = _key_id(keys[0])

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read ENCRYPTION_KEY: one or more keys in base64, separated by commas. Raises ValueError."""
        return cls([_parse_key(part.strip()) for part in text.split(",")])

    @property
    def first_header(self) -> bytes:
        """What each ciphertext of the first key begins with: HEADER_SIZE bytes."""
        return _VERSION + self._first

    @property
    def has_others(self) -> bool:
        """Whether there are keys besides the first."""
        return len(self._ciphers) > 1

    def encrypt(self, plaintext: bytes, place: str) -> bytes:
        """Encrypt with the first key, bound to `place`."""
        header = self.first_header
        nonce = os.urandom(_NONCE_SIZE)
        sealed = self._ciphers[self._first].encrypt(nonce, plaintext, header + place.encode())
        return header + nonce + sealed

    def decrypt(self, sealed: bytes, place: str) -> bytes:
        """Decrypt what was encrypted for `place` with any key of the ring. Raises DecryptionError."""
        header, nonce = sealed[:HEADER_SIZE], sealed[HEADER_SIZE : HEADER_SIZE + _NONCE_SIZE]
        cipher = self._ciphers.get(header[len(_VERSION) :])
        if header[: len(_VERSION)] != _VERSION or cipher is None:
            raise DecryptionError("The key that encrypted this is not in ENCRYPTION_KEY.")
        try:
            return cipher.decrypt(nonce, sealed[HEADER_SIZE + _NONCE_SIZE :], header + place.encode())
        except (InvalidTag, ValueError):
            raise DecryptionError("The ciphertext is damaged or belongs to another row.") from None


class Vault:
    """The store's secrets: upstream keys, token values, and the HMAC by which a token is found."""

    def __init__(self, ring: KeyRing, lookup_key: bytes) -> None:
        self.ring = ring
        self._lookup_key = lookup_key

    def lookup(self, token_value: str) -> str:
        """Return the HMAC-SHA-256 of a token's value in hexadecimal: what the store finds it by."""
        return hmac.digest(self._lookup_key, token_value.encode(), "sha256").hex()

    def seal_api_key(self, project_id: str, api_key: str) -> bytes:
        """Encrypt a project's upstream key."""
        return self.ring.encrypt(api_key.encode(), Place.API_KEY.of(project_id))

    def open_api_key(self, project_id: str, sealed: bytes) -> str:
        """Decrypt a project's upstream key. Raises DecryptionError."""
        return self.ring.decrypt(sealed, Place.API_KEY.of(project_id)).decode()

    def seal_token(self, token_id: str, value: str) -> bytes:
        """Encrypt a token's value, so that it can be listed again."""
        return self.ring.encrypt(value.encode(), Place.TOKEN.of(token_id))

    def open_token(self, token_id: str, sealed: bytes) -> str:
        """Decrypt a token's value. Raises DecryptionError."""
        return self.ring.decrypt(sealed, Place.TOKEN.of(token_id)).decode()

    def reseal(self, place: Place, row_id: str, sealed: bytes) -> bytes:
        """Encrypt with the ring's first key what any key of it decrypts. Raises DecryptionError."""
        return self.ring.encrypt(self.ring.decrypt(sealed, place.of(row_id)), place.of(row_id))


def _parse_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError("each key must be base64 of 32 bytes, as printed by: openssl rand -base64 32")
    return key


def _key_id(key: bytes) -> bytes:
    """Name a key without telling anything about it."""
    return hmac.digest(key, b"llm-proxy key id", "sha256")[:_KEY_ID_SIZE]
