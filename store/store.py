"""The record of an open store, which all readers and writers get."""

from dataclasses import dataclass

from store.database import Database
from store.encryption.crypto import Vault


@dataclass(frozen=True, slots=True)
class Store:
    """An open store: the database, and the vault that decrypts its secrets."""

    database: Database
    vault: Vault
