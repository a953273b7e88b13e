"""Reads mitmproxy's own files: its `config.yaml`, and its CA, which is made at the first start."""

from pathlib import Path

from mitmproxy import optmanager
from mitmproxy.certs import CertStore
from mitmproxy.master import Master
from mitmproxy.options import CONF_BASENAME

from store.errors import StartupError


def use(master: Master, folder: Path) -> None:
    """Have mitmproxy use the files in `folder`. Raises StartupError; mitmproxy itself would show a traceback."""
    options = master.options
    try:
        optmanager.load_paths(options, str(folder / "config.yaml"))
        passphrase = options.cert_passphrase.encode() if options.cert_passphrase else None
        CertStore.from_store(folder, CONF_BASENAME, options.key_size, passphrase)
    except Exception as error:
        raise StartupError(f"Cannot use mitmproxy's files in {folder}: {error}") from error
    options.update(confdir=str(folder))
