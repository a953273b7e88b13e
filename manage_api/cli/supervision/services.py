"""What is started, on which ports, and what is said about it."""

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from manage_api.cli.supervision.ports import open_port
from manage_api.cli.supervision.worker_slot import Service
from store.encryption.keyfiles import MANAGEMENT_TOKEN_FILE
from store.runtime.lifecycle import CANNOT_START, SUPERVISED
from store.runtime.settings import Settings
from store.version import __version__

type Command = Sequence[str]

_PYTHON = (sys.executable, "-O")
_PROXY: Command = (*_PYTHON, "-m", "addon")
_PROXY_WITH_MITMWEB: Command = (*_PROXY, "--web")
_MANAGEMENT: Command = (*_PYTHON, "-m", "manage_api")
_PREPARATION: Command = (*_PYTHON, "-m", "manage_api.cli.supervision.preparation")

ALLOCATOR: Mapping[str, str] = {"PYTHONMALLOC": "mimalloc"} if sysconfig.get_config_var("WITH_MIMALLOC") else {}
"""The environment for memory that stays as it is: with the C library's, it grows with connections that come and go."""


def proxy(settings: Settings) -> Service:
    """Open the proxy's port for as many processes as there have to be. Raises StartupError."""
    sockets = open_port("PROXY_LISTEN", settings.proxy, settings.worker_count)
    return Service("proxy", _PROXY, sockets)


def proxy_with_mitmweb(settings: Settings) -> Service:
    """Open the proxy's port for one process, as it is one that an operator watches. Raises StartupError."""
    for one in (one for sockets in open_port("WEB_LISTEN", settings.web) for one in sockets):
        one.close()  # mitmweb opens it itself, and says less of what is wrong
    sockets = open_port("PROXY_LISTEN", settings.proxy)
    return Service("proxy with mitmweb", _PROXY_WITH_MITMWEB, sockets, is_replaceable=False)


def management(settings: Settings) -> Service:
    """Open the management API's port. Raises StartupError."""
    return Service("management API", _MANAGEMENT, open_port("MANAGE_LISTEN", settings.manage))


def prepare_store() -> None:
    """Migrate the store and make the secrets, in a process of its own. Ends this one where that fails.

    It ends when this one does, as it is supervised.
    """
    env = {**os.environ, SUPERVISED: "1"}
    with subprocess.Popen(_PREPARATION, env=env, stdin=subprocess.PIPE) as process:  # noqa: S603 - our own Python
        status = process.wait()
    if status:
        sys.exit(CANNOT_START)


def _management_token(settings: Settings) -> tuple[str, str]:
    """Return where the management token is, and how a shell reads it from there."""
    if settings.management_token is None:
        path = (settings.data_dir / MANAGEMENT_TOKEN_FILE).absolute()
        return str(path), f"$(cat {shlex.quote(str(path))})"
    if "MANAGEMENT_TOKEN" in os.environ:
        return "MANAGEMENT_TOKEN (environment)", "$MANAGEMENT_TOKEN"
    file = Path(".env").absolute()
    return f"MANAGEMENT_TOKEN ({file})", f"$(sed -n s/^MANAGEMENT_TOKEN=//p {shlex.quote(str(file))})"


def banner(settings: Settings, mitmweb: str = "") -> str:
    """Say where everything is, with a command that works. `mitmweb` is its address, with its login."""
    manage = f"http://{settings.manage}"
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
    """Write a line on mitmweb, if it runs. An address without a login is for a password of the operator's own."""
    password = "" if "?" in address else "  (log in with your web_password)"
    return f"  mitmweb           {address}{password}\n" if address else ""


def proxy_banner(settings: Settings) -> str:
    """Say where the proxy is."""
    return f"LLM Proxy {__version__} is up at http://{settings.proxy}/v1  ->  {settings.upstream_url}"
