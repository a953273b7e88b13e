"""The open store, as it is handed to everything that reads or writes it."""

from dataclasses import dataclass

from store.database import Database
from store.encryption.crypto import Vault


@dataclass(frozen=True, slots=True)
class Store:
    """An open store: the database, and the vault that opens what is sealed in it."""

    database: Database
    vault: Vault
