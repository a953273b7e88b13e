"""Loads mitmproxy's own files: its `config.yaml`, and its CA, which is made at the first start."""

import contextlib
import fcntl
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mitmproxy import certs, optmanager
from mitmproxy.certs import CertStore
from mitmproxy.master import Master
from mitmproxy.options import CONF_BASENAME

from addon.replacing import replace
from store.errors import StartupError

_log = logging.getLogger(__name__)

_load_key = functools.lru_cache(maxsize=2)(certs.load_pem_private_key)


def load_keys_once() -> None:
    """Keep the private keys that have been loaded last, by their PEM text and passphrase.

    REPLACES: `load_pem_private_key` in mitmproxy.certs.
    WHY: the CA is loaded three times at a start (the check here; mitmproxy's tlsconfig, when `confdir` is set and when
    it runs), and the check of its RSA key takes 36 ms of CPU each time: 73 ms less a start.
    REMOVE WHEN: tlsconfig loads the CA once. No upstream issue known.
    """
    replace(certs, "load_pem_private_key", _load_key)


def use(master: Master, folder: Path) -> None:
    """Have mitmproxy use the files in `folder`. Raises StartupError; mitmproxy itself would show a traceback."""
    load_keys_once()
    options = master.options
    try:
        optmanager.load_paths(options, str(folder / "config.yaml"))
        passphrase = options.cert_passphrase.encode() if options.cert_passphrase else None
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            CertStore.from_store(folder, CONF_BASENAME, options.key_size, passphrase)
    except Exception as error:
        raise StartupError(f"Cannot use mitmproxy's files in {folder}: {error}") from error
    options.update(confdir=str(folder))
    if options.deferred:
        names = ", ".join(sorted(options.deferred))
        _log.warning("config.yaml: options of addons that do not run here have no effect: %s", names)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from making the files at the same time: several start at once, and find none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
