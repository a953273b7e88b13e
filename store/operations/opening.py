"""Opens the store: the folder, the database and its migrations, the secrets. Both processes start here.

Commands that read an existing store, or work on one, open it as it is: nothing is made for them.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr

from store import schema
from store.database import Database, open_database, without_password
from store.database.models import CHECK, Secret
from store.encryption import keyfiles
from store.encryption.crypto import AssociatedData, DecryptionError, KeyRing, Vault, new_key
from store.encryption.keyfiles import ENCRYPTION_KEY_FILE, MANAGEMENT_TOKEN_FILE
from store.errors import GatewayError, StartupError, StoreLocked
from store.runtime.settings import Settings, bearer_text
from store.store import Store

PAUSE = 0.02
"""Seconds from one try to read a locked store to the next."""

_LOOKUP_KEY = "token_lookup_key"
_LOOKUP_KEY_SIZE = 32


def open_store(settings: Settings) -> Store:
    """Open the store, and make what does not exist yet. Several processes may do so at once.

    Raises StartupError when it cannot be opened, when its schema is newer than this code, or when the key ring
    cannot decrypt it.
    """
    with _reaching(settings) as database:  # closed: connections are per thread, and this one may not need it
        prepare_folder(settings.data_dir)
        with database.schema.exclusive():
            _patiently(lambda: schema.migrate(database), settings.store_timeout)
            vault = _patiently(lambda: _unlock(database, settings), settings.store_timeout)
        _require_writable(database)
    return Store(database, vault)


def open_existing(settings: Settings) -> Store:
    """Open an existing store. Nothing is made: no folder, no file, no table, no secret.

    Raises StartupError when there is none, when its schema is older or newer than this code, or when it cannot be
    opened.
    """
    with _reaching(settings) as database:
        if schema.is_new(database):
            raise _missing(settings)
        lacking = schema.pending(database)
        if lacking:
            raise StartupError(
                f"The store's schema is older than this program (it lacks {', '.join(lacking)}). "
                "The command migrate brings it up to date, and so does a start of the gateway."
            )
        sealed = _sealed_secrets(database)
        if not sealed:  # it was migrated, and never opened
            raise _missing(settings)
        return Store(database, _opened(_ring(settings, is_new=False), sealed))


def migrate_store(settings: Settings, tell: Callable[[str], None]) -> None:
    """Bring the store's schema up to date, as opening it does; `tell` gets each migration's name.

    Raises StartupError.
    """
    with _reaching(settings) as database:
        prepare_folder(settings.data_dir)
        with database.schema.exclusive():
            schema.migrate(database, tell)


def pending_migrations(settings: Settings) -> list[str]:
    """Return the names of the migrations that opening the store would run; nothing is made. Raises StartupError."""
    with _reaching(settings) as database:
        return schema.pending(database)


@contextlib.contextmanager
def _reaching(settings: Settings) -> Iterator[Database]:
    """Use the store's database; raise its faults as StartupErrors."""
    try:
        with contextlib.closing(open_database(settings.store_url, settings.store_timeout)) as database:
            yield database
    except OSError as error:
        raise _unusable(error) from error
    except GatewayError as error:
        raise StartupError(
            f"Cannot open the store {without_password(settings.store_url)}: {error.__cause__}"
        ) from error


def prepare_folder(folder: Path) -> None:
    """Make DATA_DIR, for its owner alone, where it does not exist."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _missing(settings: Settings) -> StartupError:
    return StartupError(
        f"There is no store at {without_password(settings.store_url)}. "
        "The first start of the gateway makes one; DATA_DIR and DATABASE_URL say where."
    )


def _unusable(error: OSError) -> StartupError:
    return StartupError(f"Cannot use DATA_DIR or DATABASE_URL: {error.strerror}: {error.filename}")


def management_token(settings: Settings) -> str:
    """Return the management token: the setting's, or the one in DATA_DIR, made now if there is none.

    Raises StartupError when the file cannot be read, or is empty: an empty token would let everybody in.
    """
    if settings.management_token is not None:
        return settings.management_token.get_secret_value()
    file = settings.data_dir / MANAGEMENT_TOKEN_FILE
    try:
        token = keyfiles.read_or_make(file, lambda: secrets.token_urlsafe(32))
    except OSError as error:
        raise _unusable(error) from error
    if not token:
        raise StartupError(f"The file {file.name} in DATA_DIR is empty. Remove it to get a new token.")
    try:
        return bearer_text(SecretStr(token)).get_secret_value()
    except ValueError as error:
        raise StartupError(f"The file {file.name} in DATA_DIR {error}. Remove it to get a new token.") from None


def _require_writable(database: Database) -> None:
    """Raise StoreUnavailable for a read-only store: it would open, be read, and then refuse every request."""
    with contextlib.suppress(StoreLocked), database.write(patience=0):  # a lock of another process is no fault
        database.run("DELETE FROM secret WHERE 1 = 0")  # BEGIN alone succeeds


def _patiently[T](step: Callable[[], T], seconds: float) -> T:
    """Take a step again while others have the store locked, as one does that closes it. Raises StoreLocked."""
    until = time.monotonic() + seconds
    while True:
        try:
            return step()
        except StoreLocked:
            if time.monotonic() >= until:
                raise
        time.sleep(PAUSE)


def _unlock(database: Database, settings: Settings) -> Vault:
    """Decrypt the store's own secrets, or make them in an empty store."""
    sealed = _sealed_secrets(database)
    ring = _ring(settings, is_new=not sealed)
    return _opened(ring, sealed) if sealed else _make_secrets(database, ring)


def _sealed_secrets(database: Database) -> Mapping[str, bytes]:
    with database.read():
        return {secret.name: bytes(secret.sealed) for secret in Secret.select()}


def _opened(ring: KeyRing, sealed: Mapping[str, bytes]) -> Vault:
    try:
        ring.decrypt(sealed[CHECK], AssociatedData.SECRET.of(CHECK))
        return Vault(ring, ring.decrypt(sealed[_LOOKUP_KEY], AssociatedData.SECRET.of(_LOOKUP_KEY)))
    except DecryptionError:
        raise StartupError(
            "ENCRYPTION_KEY does not open this store. Set the key that it was made with, or add it to the ring."
        ) from None
    except KeyError as missing:
        raise StartupError(f"The store is damaged: it has lost its secret {missing}.") from None


def _make_secrets(database: Database, ring: KeyRing) -> Vault:
    lookup_key = secrets.token_bytes(_LOOKUP_KEY_SIZE)
    with database.write():
        for name, plaintext in ((CHECK, b"llm-proxy"), (_LOOKUP_KEY, lookup_key)):
            Secret.create(name=name, sealed=ring.encrypt(plaintext, AssociatedData.SECRET.of(name)))
    return Vault(ring, lookup_key)


def _ring(settings: Settings, *, is_new: bool) -> KeyRing:
    """Return the setting's key ring, or that of the file in DATA_DIR, which is made for a new store only."""
    if settings.encryption_key is not None:
        return KeyRing.parse(settings.encryption_key.get_secret_value())
    file = settings.data_dir / ENCRYPTION_KEY_FILE
    text = keyfiles.read_or_make(file, new_key) if is_new else keyfiles.read(file)
    if text is None:
        raise StartupError(
            f"The store is encrypted, and there is no key: set ENCRYPTION_KEY, or put the file {ENCRYPTION_KEY_FILE} "
            f"back into {settings.data_dir}. A new key would not open it."
        )
    return _parse_file(text)


def _parse_file(text: str) -> KeyRing:
    try:
        return KeyRing.parse(text)
    except ValueError as error:
        raise StartupError(f"The file {ENCRYPTION_KEY_FILE} in DATA_DIR is damaged: {error}") from None
