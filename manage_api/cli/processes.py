"""What is started, where it listens, and what is said about it."""

import socket
import sys
from collections.abc import Sequence

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


def banner(settings: Settings) -> str:
    """Say where everything is, with a command that works."""
    manage = f"http://{settings.manage}"
    if settings.management_token is None:
        where = str(settings.data_dir / MANAGEMENT_TOKEN_FILE)
        token = f"$(cat {where})"
    else:
        where, token = "MANAGEMENT_TOKEN", "$MANAGEMENT_TOKEN"
    return f"""LLM Proxy {__version__} is up. Ctrl-C stops it.

  proxy             http://{settings.proxy}/v1  ->  {settings.upstream_url}
  management API    {manage}/manage  (documentation: {manage}/docs)
  management token  {where}

Try:

  curl -H "Authorization: Bearer {token}" {manage}/manage/projects
"""
