"""A wheel and a clone on a Debian with Python alone, and without a network: each answers a request within a minute."""

import os
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import containers
from support.containers import Container
from support.gateway import smoke
from support.gateway.processes import Process, wait_until

pytestmark = [
    pytest.mark.soak("run.sh", "pyproject.toml", "requirements/run.txt", "manage_api/cli"),
    pytest.mark.skipif(
        not containers.is_possible() or os.getuid() != 0, reason=f"this needs root and {containers.TOOLS}"
    ),
    pytest.mark.timeout(900),
]

IMAGE = "localhost/llm-proxy-test-debian"
WITHIN = 60.0
PATIENCE = 300.0
ASK = f"{Path(smoke.__file__).read_text()}\nimport sys\nprint(json.dumps(count_a_request(sys.argv[1])))"

WHEEL = """
python3 -m venv --clear /root/llm-proxy
/root/llm-proxy/bin/pip install --require-hashes -r /root/clone/requirements/run.txt
/root/llm-proxy/bin/pip install --no-deps /root/dist/*.whl
cd /root/elsewhere
exec /root/llm-proxy/bin/llm-proxy demo
"""
CLONE = "exec /root/clone/run.sh demo"
WAYS = {"wheel": (WHEEL, "Installing collected packages"), "clone": (CLONE, "installing [0-9]+ packages")}
"""The commands of each way, and the words of a moment in the middle of them."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    containers.fetch_wheels(folder)
    containers.make_image(IMAGE, folder, "python3", "python3-venv")
    yield folder
    containers.remove_image(IMAGE)


@pytest.fixture(scope="module")
def machine(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine with a clone, and a wheel; a file in the folder from which commands run must not get in their way."""
    wheel = containers.build_wheel(tmp_path_factory.mktemp("dist"))
    folder = tmp_path_factory.mktemp("machine")
    with containers.running(IMAGE, folder, ["sleep", "infinity"], *containers.with_wheels(wheels)) as container:
        wait_until(lambda: _is_up(container), PATIENCE)
        container.copy("/root/clone", ".")
        container.execute("mkdir", "/root/dist", "/root/elsewhere")
        containers.run("podman", "cp", wheel, f"{container.name}:/root/dist/{wheel.name}")
        container.execute("tee", "/root/elsewhere/store.py", given=b"raise SystemExit('the wrong module')")
        yield container


def _is_up(container: Container) -> bool:
    return container.name in containers.run("podman", "ps", "--format={{.Names}}")


@pytest.mark.parametrize("way", WAYS)
def test_a_request_is_counted_within_a_minute_of_a_second_try(machine: Container, tmp_path: Path, way: str) -> None:
    commands, middle = WAYS[way]

    def start(name: str) -> Process:
        shell = machine.command("bash", "-ec", commands)
        return Process(shell, env={"PATH": os.environ["PATH"]}, log=tmp_path / name)

    first = start("first.log")
    wait_until(lambda: re.search(middle, first.output()) is not None, PATIENCE)
    kill_all(machine, first)
    began = time.monotonic()
    second = start("second.log")
    try:
        wait_until(lambda: "/manage/tokens/" in second.output() or not second.is_running(), PATIENCE)
        answer = machine.execute("python3", "-c", ASK, second.output())
        took = time.monotonic() - began
        print(f"{way}: {took:.0f} s")
    finally:
        kill_all(machine, second)
    assert '"This is the demo upstream, no model was asked. You said: Hello!", 1]' in answer
    assert took < WITHIN


def kill_all(machine: Container, process: Process) -> None:
    """End all that runs in it at once, but for its first process, which sleeps."""
    machine.execute("bash", "-c", "kill -9 -1")
    process.wait()


def test_the_wheel_has_each_file_of_the_packages(tmp_path: Path) -> None:
    with zipfile.ZipFile(containers.build_wheel(tmp_path)) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {*containers.run("git", "ls-files", "addon", "manage_api", "store").split()}
