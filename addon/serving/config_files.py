"""Reads mitmproxy's own files: its `config.yaml`, and its CA, which is made at the first start."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mitmproxy import optmanager
from mitmproxy.certs import CertStore
from mitmproxy.master import Master
from mitmproxy.options import CONF_BASENAME

from store.errors import StartupError

_log = logging.getLogger(__name__)


def use(master: Master, folder: Path) -> None:
    """Have mitmproxy use the files in `folder`. Raises StartupError; mitmproxy itself would show a traceback."""
    options = master.options
    try:
        optmanager.load_paths(options, str(folder / "config.yaml"))
        passphrase = options.cert_passphrase.encode() if options.cert_passphrase else None
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            CertStore.from_store(folder, CONF_BASENAME, options.key_size, passphrase)
    except Exception as error:
        raise StartupError(f"Cannot use mitmproxy's files in {folder}: {error}") from error
    options.update(confdir=str(folder))
    if options.deferred:
        names = ", ".join(sorted(options.deferred))
        _log.warning("config.yaml: options of addons that do not run here have no effect: %s", names)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process make files in a folder meanwhile: several start at once, and find none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
