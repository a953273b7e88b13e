"""The services that a command starts, the preparation before them, and the banner when they serve."""

import os
import shlex
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from manage_api.cli.supervision.ports import open_port
from manage_api.cli.supervision.worker_slot import Service
from store.encryption.keyfiles import MANAGEMENT_TOKEN_FILE
from store.runtime.settings import Settings
from store.version import __version__

type Command = Sequence[str]

PYTHON = (sys.executable, "-P", "-O")
"""Python for the processes: no file in the current folder takes the place of a module (`-P`)."""

_PROXY: Command = (*PYTHON, "-m", "addon")
_PROXY_WITH_MITMWEB: Command = (*_PROXY, "--web")
_MANAGEMENT: Command = (*PYTHON, "-m", "manage_api")

PREPARATION: Command = (*PYTHON, "-m", "manage_api.cli.supervision.preparation")
"""Migrates the store and makes the secrets, before the services start."""

ALLOCATOR: Mapping[str, str] = {"PYTHONMALLOC": "mimalloc"} if sysconfig.get_config_var("WITH_MIMALLOC") else {}
"""Environment that keeps memory level: with the C library's allocator it grows as connections come and go."""


def proxy(settings: Settings) -> Service:
    """Open the proxy's port for all its workers. Raises StartupError."""
    sockets = open_port("PROXY_LISTEN", settings.proxy, settings.worker_count)
    return Service("proxy", _PROXY, sockets)


def proxy_with_mitmweb(settings: Settings) -> Service:
    """Open the proxy's port for one process: mitmweb shows the traffic of its own process only. Raises StartupError."""
    for one in (one for sockets in open_port("WEB_LISTEN", settings.web) for one in sockets):
        one.close()  # mitmweb opens it itself, but its error says less
    sockets = open_port("PROXY_LISTEN", settings.proxy)
    return Service("proxy with mitmweb", _PROXY_WITH_MITMWEB, sockets, is_replaceable=False)


def management(settings: Settings) -> Service:
    """Open the management API's port. Raises StartupError."""
    return Service("management API", _MANAGEMENT, open_port("MANAGE_LISTEN", settings.manage))


def _management_token(settings: Settings) -> tuple[str, str]:
    """Return where the management token is, and how a shell reads it."""
    if settings.management_token is None:
        path = (settings.data_dir / MANAGEMENT_TOKEN_FILE).absolute()
        return str(path), f"$(cat {shlex.quote(str(path))})"
    if "MANAGEMENT_TOKEN" in os.environ:
        return "MANAGEMENT_TOKEN (environment)", "$MANAGEMENT_TOKEN"
    file = Path(".env").absolute()
    return f"MANAGEMENT_TOKEN ({file})", f"$(sed -n s/^MANAGEMENT_TOKEN=//p {shlex.quote(str(file))})"


def banner(settings: Settings, mitmweb: str = "") -> str:
    """Return the addresses of the services, and a command to try. `mitmweb` is its address, with its login."""
    manage = f"http://{settings.manage.from_here}"
    where, token = _management_token(settings)
    return f"""LLM Proxy {__version__} is up. Ctrl-C stops it.

  proxy             http://{settings.proxy}/v1  ->  {settings.upstream_url}
  management API    {manage}/manage  (documentation: {manage}/docs)
  management token  {where}
{_mitmweb(mitmweb)}
Try:

  curl -H "Authorization: Bearer {token}" {manage}/manage/projects
"""


def _mitmweb(address: str) -> str:
    """Return the line for mitmweb, if it runs. Its address has no login where the operator has set a password."""
    password = "" if "?" in address else "  (log in with your web_password)"
    return f"  mitmweb           {address}{password}\n" if address else ""


def proxy_banner(settings: Settings) -> str:
    """Return the address of the proxy."""
    return f"LLM Proxy {__version__} is up at http://{settings.proxy}/v1  ->  {settings.upstream_url}"
