"""What is started, where it listens, and what is said about it."""

import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from store.bootstrap import MANAGEMENT_TOKEN_FILE
from store.errors import StartupError
from store.settings import Listen, Settings
from store.version import __version__

type Command = Sequence[str]

PROXY: Command = (sys.executable, "-m", "addon")
PROXY_WITH_MITMWEB: Command = (*PROXY, "--web")
MANAGEMENT: Command = (sys.executable, "-m", "manage_api")


def require_free_port(name: str, listen: Listen) -> None:
    """Raise StartupError, naming the setting, where a port is taken or cannot be opened."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(listen)
        except OSError as error:
            raise StartupError(f"Cannot listen on {name}={listen}: {error.strerror}. Choose another port.") from None


def _management_token(settings: Settings) -> tuple[str, str]:
    """Return where the management token is, and how a shell reads it from there."""
    if settings.management_token is None:
        path = (settings.data_dir / MANAGEMENT_TOKEN_FILE).absolute()
        return str(path), f"$(cat {shlex.quote(str(path))})"
    if "MANAGEMENT_TOKEN" in os.environ:
        return "MANAGEMENT_TOKEN (environment)", "$MANAGEMENT_TOKEN"
    file = Path(".env").absolute()
    return f"MANAGEMENT_TOKEN ({file})", f"$(sed -n s/^MANAGEMENT_TOKEN=//p {shlex.quote(str(file))})"


def banner(settings: Settings) -> str:
    """Say where everything is, with a command that works."""
    manage = f"http://{settings.manage}"
    where, token = _management_token(settings)
    return f"""LLM Proxy {__version__} is up. Ctrl-C stops it.

  proxy             http://{settings.proxy}/v1  ->  {settings.upstream_url}
  management API    {manage}/manage  (documentation: {manage}/docs)
  management token  {where}

Try:

  curl -H "Authorization: Bearer {token}" {manage}/manage/projects
"""
