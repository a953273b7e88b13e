"""nginx and HAProxy, started for real with the files of docs/deploy, and with ports, paths and users of the test's."""

import abc
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from support.gateway.installation import children
from support.gateway.processes import ROOT, Process, wait_until

DEPLOY = ROOT / "docs" / "deploy"

type Kind = Literal["nginx", "haproxy"]
KINDS: tuple[Kind, ...] = ("nginx", "haproxy")


def require(program: str) -> str:
    """Return the path of a program; skip the test where it is not installed."""
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


class HttpEngine(abc.ABC):
    """One of them; `changes` are made to its file, too."""

    process: Process

    def __init__(self, kind: Kind, folder: Path, file: str, changes: Mapping[str, str]) -> None:
        folder.chmod(0o755)  # nginx's workers are another user where root runs the tests
        self.kind = kind
        self.folder = folder
        self._file = DEPLOY / file
        self._changes = changes
        self._program = require(kind)
        self._config = folder / f"{kind}.conf"

    def command(self) -> list[str]:
        """Return the command that starts it in the foreground."""
        if self.kind == "haproxy":
            return [self._program, "-W", "-db", "-f", str(self._config)]
        return [self._program, "-p", str(self.folder), "-c", str(self._config), "-g", "daemon off;"]

    def configure(self, more: Mapping[str, str] | None = None) -> None:
        """Write its file again, with `more` changes."""
        unprivileged = self._unprivileged_haproxy() if self.kind == "haproxy" else self._unprivileged_nginx()
        text = replaced(self._file.read_text(), {**self._own(), **unprivileged})
        self._config.write_text(replaced(text, {**self._changes, **(more or {})}))

    def reload(self) -> None:
        """Reload its file, as `systemctl reload` does, and wait for the new processes."""
        before = set(children(self.process.pid))
        self.process.signal(signal.SIGUSR2 if self.kind == "haproxy" else signal.SIGHUP)
        wait_until(lambda: bool(set(children(self.process.pid)) - before))

    def logs(self) -> str:
        """Return all that it has logged."""
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def spooled(self) -> list[Path]:
        """Return the files in which it keeps bodies."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]

    @abc.abstractmethod
    def _own(self) -> dict[str, str]:
        """Return the changes to its file that give it the test's folder, ports and user."""

    def _unprivileged_haproxy(self) -> dict[str, str]:
        return {
            "log /dev/log local0": "log stdout format raw local0",
            "maxconn 20000": "maxconn 1000",  # more than a test's process may have
            "    chroot /var/lib/haproxy\n": "",
            "    user haproxy\n    group haproxy\n": "",
        }

    def _unprivileged_nginx(self) -> dict[str, str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        spool = "".join(f"{kind}_temp_path {self.folder}/spool/{kind};\n" for kind in kinds)
        (self.folder / "spool").mkdir(exist_ok=True)
        return {
            "http {\n": f"http {{\n{spool}",
            "user www-data;\n": "",
            "/run/nginx.pid": f"{self.folder}/nginx.pid",
            "/var/log/nginx": str(self.folder),
        }


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Return the text with `changes`; the text must hold each part that they replace."""
    for old, new in changes.items():
        assert old in text, f"the file has changed: {old!r} is not in it"
        text = text.replace(old, new)
    return text
