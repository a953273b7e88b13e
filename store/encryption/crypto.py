"""Encrypts the secrets of the store.

A `KeyRing` encrypts with AES-256-GCM: its first key encrypts, each key decrypts, so that keys can be replaced
while the store is in use. A `Vault` encrypts API keys and tokens with it, and finds tokens by an HMAC.

Layout of a ciphertext: version (1 byte, 1), key id (4), nonce (12), ciphertext and tag (16). The first five bytes,
and the table, column and row that the ciphertext belongs to, are its associated data: moved to another row it does
not decrypt.
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


class AssociatedData(enum.StrEnum):
    """The associated data of the columns that hold ciphertexts; a row's own has its id behind."""

    API_KEY = "project:api_key"
    TOKEN = "token:value"  # noqa: S105 - a column
    SECRET = "secret:sealed"  # noqa: S105 - a column

    def of(self, row_id: str) -> str:
        """Return that of one row."""
        return f"{self}:{row_id}"


class DecryptionError(Exception):
    """A ciphertext is damaged, belongs to another row, or needs a key that is not in the ring."""


def new_key() -> str:
    """Return a new key as it is written in ENCRYPTION_KEY: base64 of 32 random bytes."""
    return base64.b64encode(os.urandom(KEY_SIZE)).decode()


class KeyRing:
    """Encrypts with AES-256-GCM under the first of several keys, and decrypts with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first = _key_id(keys[0])

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read ENCRYPTION_KEY: one or more keys in base64, separated by commas. Raises ValueError."""
        return cls([_parse_key(part.strip()) for part in text.split(",")])

    @property
    def first_header(self) -> bytes:
        """The first HEADER_SIZE bytes of each ciphertext of the first key."""
        return _VERSION + self._first

    @property
    def has_others(self) -> bool:
        """True if there are keys besides the first."""
        return len(self._ciphers) > 1

    def encrypt(self, plaintext: bytes, associated_data: str) -> bytes:
        """Encrypt with the first key, bound to the associated data."""
        header = self.first_header
        nonce = os.urandom(_NONCE_SIZE)
        sealed = self._ciphers[self._first].encrypt(nonce, plaintext, header + associated_data.encode())
        return header + nonce + sealed

    def decrypt(self, sealed: bytes, associated_data: str) -> bytes:
        """Decrypt, with any key of the ring, a ciphertext with this associated data. Raises DecryptionError."""
        header, nonce = sealed[:HEADER_SIZE], sealed[HEADER_SIZE : HEADER_SIZE + _NONCE_SIZE]
        cipher = self._ciphers.get(header[len(_VERSION) :])
        if header[: len(_VERSION)] != _VERSION or cipher is None:
            raise DecryptionError("The key that encrypted this is not in ENCRYPTION_KEY.")
        try:
            return cipher.decrypt(nonce, sealed[HEADER_SIZE + _NONCE_SIZE :], header + associated_data.encode())
        except (InvalidTag, ValueError):
            raise DecryptionError("The ciphertext is damaged or belongs to another row.") from None


class Vault:
    """The store's secrets: upstream keys, token values, and the HMAC by which a token is found."""

    def __init__(self, ring: KeyRing, lookup_key: bytes) -> None:
        self.ring = ring
        self._hmac = hmac.new(lookup_key, digestmod="sha256")

    def lookup(self, token_value: str) -> str:
        """Return the HMAC-SHA-256 of a token's value in hexadecimal, by which the store finds it."""
        digest = self._hmac.copy()  # a new one would prepare the key again
        digest.update(token_value.encode())
        return digest.hexdigest()

    def seal_api_key(self, project_id: str, api_key: str) -> bytes:
        """Encrypt a project's upstream key."""
        return self.ring.encrypt(api_key.encode(), AssociatedData.API_KEY.of(project_id))

    def open_api_key(self, project_id: str, sealed: bytes) -> str:
        """Decrypt a project's upstream key. Raises DecryptionError."""
        return self.ring.decrypt(sealed, AssociatedData.API_KEY.of(project_id)).decode()

    def seal_token(self, token_id: str, value: str) -> bytes:
        """Encrypt a token's value, so that it can be listed again."""
        return self.ring.encrypt(value.encode(), AssociatedData.TOKEN.of(token_id))

    def open_token(self, token_id: str, sealed: bytes) -> str:
        """Decrypt a token's value. Raises DecryptionError."""
        return self.ring.decrypt(sealed, AssociatedData.TOKEN.of(token_id)).decode()

    def reseal(self, column: AssociatedData, row_id: str, sealed: bytes) -> bytes:
        """Decrypt with any key of the ring, and encrypt with the first. Raises DecryptionError."""
        associated_data = column.of(row_id)
        return self.ring.encrypt(self.ring.decrypt(sealed, associated_data), associated_data)


def _parse_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError("each key must be base64 of 32 bytes, as printed by: openssl rand -base64 32")
    return key


def _key_id(key: bytes) -> bytes:
    """Return an id of a key that discloses nothing about it."""
    return hmac.digest(key, b"llm-proxy key id", "sha256")[:_KEY_ID_SIZE]
