"""One machine as docs/installing.md says it: Debian with systemd as its first process, Caddy, backups and an upgrade.

The commands of the page are run as they are.
"""

import json
import os
import re
from collections.abc import Iterator

import pytest
from support import containers
from support.containers import Container
from support.gateway.processes import ROOT, wait_until

pytestmark = [
    pytest.mark.soak("docs/installing.md", "docs/deploy", "manage_api/cli/supervision"),
    pytest.mark.skipif(
        not containers.is_possible() or os.getuid() != 0, reason=f"this needs root and {containers.TOOLS}"
    ),
    pytest.mark.timeout(900),
]

IMAGE = "localhost/llm-proxy-test-systemd"
PACKAGES = ("python3", "python3-venv", "systemd", "systemd-sysv", "dbus", "adduser", "caddy", "curl", "procps")
PATIENCE = 120.0
SYSTEMD = (
    *("--systemd=always", "--cap-add=SYS_ADMIN,NET_ADMIN", "--security-opt=seccomp=unconfined"),
    # This machine may have control groups of version 1, which systemd takes only when told so.
    "--env=SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
)
API_KEY = "sk-the-key-of-this-machine"
UPSTREAM = "127.0.0.1:9000"
BACKUP = "2026-11-25T03-15-00Z.db"
"""The backup that the page restores."""

PAGE = (ROOT / "docs" / "installing.md").read_text()


def commands(heading: str) -> str:
    """Return the shell commands of the page that begin below a heading."""
    found = re.search(rf"^#+ {heading}\n.*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def as_service() -> str:
    """Return the words of the page before a command that works on the service's store."""
    (words,) = re.findall(r"^(cd /var/lib/llm-proxy && .*/llm-proxy) project list$", PAGE, re.MULTILINE)
    return str(words)


class Machine:
    """A machine on which the service runs, before an upstream on the same machine."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def shell(self, script: str) -> str:
        return self._container.execute("bash", "-ec", script)

    def cli(self, arguments: str) -> str:
        return self.shell(f"{as_service()} {arguments}")

    def ask(self, token: str) -> str:
        """Send a request as a client does, through Caddy; return the answer."""
        headers = f'-H "Authorization: Bearer {token}" -H "Content-Type: application/json"'
        body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'
        url = "https://localhost/v1/chat/completions"
        return self.shell(f"curl --silent --show-error --fail --insecure {url} {headers} -d '{body}'")

    def count(self) -> int:
        (token,) = json.loads(self.cli("token list --json"))
        count: int = token["request_count"]
        return count

    def processes(self) -> set[str]:
        """Return the numbers of the processes of the service."""
        return set(self.shell("cat /proc/$(systemctl show -p MainPID --value llm-proxy)/task/*/children").split())

    def backups(self) -> list[str]:
        return self.shell("ls /var/lib/llm-proxy-backups").split()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("service")
    containers.fetch_wheels(folder)
    containers.make_image(IMAGE, folder, *PACKAGES)
    wheel = containers.build_wheel(folder)
    with containers.running(IMAGE, folder, ["/sbin/init"], *SYSTEMD, *containers.with_wheels(folder)) as container:
        found = Machine(container)
        wait_until(lambda: _is_booted(container), PATIENCE)
        container.copy("/root/clone", ".")
        found.shell(f"mkdir /root/clone/dist && cp /wheels/{wheel.name} /root/clone/dist")
        found.shell(f"cd /root/clone\n{commands('A service on one machine')}")
        found.shell("sed -i s/llm-proxy.example.com/localhost/ /etc/caddy/Caddyfile; systemctl reload caddy")
        demo = f"-m manage_api.demo --port {UPSTREAM.partition(':')[2]} --api-key {API_KEY}"
        found.shell(f"systemd-run --quiet --unit=upstream /opt/llm-proxy/.venv/bin/python {demo}")
        found.shell(f"mkdir /etc/llm-proxy; echo UPSTREAM_URL=http://{UPSTREAM} > /etc/llm-proxy/environment")
        found.shell("systemctl restart llm-proxy")
        yield found
    containers.remove_image(IMAGE)


def _is_booted(container: Container) -> bool:
    """Tell whether systemd has started all; `degraded` is a unit that a container cannot have."""
    listed = containers.run("podman", "ps", "--format={{.Names}}").split()
    if container.name not in listed:
        return False
    state = container.execute("bash", "-c", "systemctl is-system-running || true")
    return state.strip() in {"running", "degraded"}


def test_the_service_is_backed_up_restored_and_upgraded(machine: Machine) -> None:
    """One test, as the machine takes a minute: it goes on from one page's chapter to the next."""
    assert machine.shell("systemctl is-active llm-proxy caddy llm-proxy-backup.timer").split() == ["active"] * 3

    # Clients come through Caddy, by TLS; the management API does not.
    machine.shell(f"{as_service()} project create Search <<< {API_KEY}")
    token = json.loads(machine.cli("token create --project Search --json"))["token"]
    assert "You said: Hello!" in machine.ask(token)
    assert machine.count() == 1
    status = "curl --silent --insecure --output /dev/null --write-out '%{http_code}'"
    assert machine.shell(f"{status} https://localhost/manage/projects") == "404"

    # A backup by the timer's unit; what comes after it is gone with a restore.
    machine.shell("systemctl start llm-proxy-backup")
    (backup,) = machine.backups()
    machine.ask(token)
    assert machine.count() == 2
    assert BACKUP in commands("Backup and restore")
    machine.shell(commands("Backup and restore").replace(BACKUP, backup))
    assert machine.count() == 1
    machine.ask(token)
    assert machine.count() == 2

    # An upgrade, here to the same version: the processes are others, and the service goes on.
    before = machine.processes()
    machine.shell(f"cd /root/clone\n{commands('Upgrade')}")
    wait_until(lambda: not before & machine.processes(), PATIENCE)
    machine.ask(token)
    assert machine.count() == 3
    assert len(machine.backups()) == 2

    # The end is clean, and nothing was refused to the service by its hardening.
    machine.shell("systemctl stop llm-proxy")
    assert machine.shell("systemctl show --property=Result --value llm-proxy") == "success\n"
    journal = machine.shell("journalctl --unit=llm-proxy --unit=llm-proxy-backup")
    assert "Read-only file system" not in journal
    assert "not permitted" not in journal
    assert machine.shell("stat --format=%a /var/lib/llm-proxy /var/lib/llm-proxy-backups").split() == ["700"] * 2
