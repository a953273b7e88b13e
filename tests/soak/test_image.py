"""The container image: built from nothing but Debian's packages and the lock, and run by podman."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import containers
from support.containers import Container
from support.gateway import smoke
from support.gateway.processes import Process, wait_until

pytestmark = [
    pytest.mark.soak("Dockerfile", ".dockerignore", "requirements/run.txt"),
    pytest.mark.skipif(
        not containers.is_possible() or os.getuid() != 0, reason=f"this needs root and {containers.TOOLS}"
    ),
    pytest.mark.timeout(900),
]

BASE = "localhost/llm-proxy-test-base"
IMAGE = "localhost/llm-proxy-test"
MOST = 250_000_000
PATIENCE = 300.0
LOCKED_UP = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--user=12345:0")
"""Options for a container of any user, without a place to write to but its volume."""

ASK = f"{Path(smoke.__file__).read_text()}\nimport sys\nprint(json.dumps(count_a_request(sys.argv[1])))"

STREAM = """
import http.client, sys
body = '{"model": "m", "stream": true, "messages": [{"role": "user", "content": "drain"}]}'
headers = {"Authorization": "Bearer " + sys.argv[1], "X-Demo-Words": "40", "X-Demo-Chunk-Delay": "0.05"}
connection = http.client.HTTPConnection("127.0.0.1", 8080)
connection.request("POST", "/v1/chat/completions", body, headers | {"Content-Type": "application/json"})
response = connection.getresponse()
print(response.readline(), flush=True)
print(response.read().decode().splitlines()[-2], flush=True)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[float]:
    """The image; the seconds of its build. A build before it is killed in its middle."""
    wheels = tmp_path_factory.mktemp("wheels")
    containers.fetch_wheels(wheels)
    containers.make_image(BASE, wheels, "python3", "python3-venv", "binutils")
    options = [f"--build-arg=BASE={BASE}", *containers.with_wheels(wheels), f"--tag={IMAGE}"]
    command = ["buildah", "build", "--isolation=chroot", "--format=docker", *options, "."]
    env = {name: os.environ[name] for name in ("PATH", "HOME")}
    killed = Process(command, env=env, log=wheels / "killed.log")
    wait_until(lambda: "Installing collected packages" in killed.output(), PATIENCE)
    killed.kill()
    began = time.monotonic()
    containers.run(*command)
    yield time.monotonic() - began
    containers.remove_image(IMAGE)
    containers.remove_image(BASE)


@pytest.fixture(scope="module")
def demo(built: float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A demo as any user, without a network, that may write into its volume alone."""
    assert built
    folder = tmp_path_factory.mktemp("demo")
    with containers.running(IMAGE, folder, ["demo"], *LOCKED_UP, until="/manage/tokens/") as container:
        yield container


def test_the_image_is_small_and_not_roots(built: float) -> None:
    (found,) = json.loads(containers.run("podman", "image", "inspect", IMAGE))
    print(f"built in {built:.0f} s; {found['Size']:,} bytes")
    assert found["Size"] < MOST
    config = found["Config"]
    assert (config["User"], [*config["Volumes"]], config["StopSignal"]) == ("65532:65532", ["/data"], "SIGTERM")
    assert config["Entrypoint"] == ["/app/bin/llm-proxy"]


def test_a_demo_of_any_user_without_a_network_counts_a_request(demo: Container) -> None:
    answer, count = json.loads(demo.execute("python", "-c", ASK, demo.process.output()))
    assert ("You said: Hello!" in answer, count) == (True, 1)


def test_it_is_healthy_and_has_no_shell(demo: Container) -> None:
    (found,) = json.loads(containers.run("podman", "image", "inspect", IMAGE))
    kind, *command = found["Healthcheck"]["Test"]
    assert kind == "CMD"
    demo.execute(*command)
    with pytest.raises(AssertionError, match="ConnectionRefused"):
        demo.execute(*(word.replace("8080", "8079") for word in command))
    with pytest.raises(AssertionError, match="executable file"):
        demo.execute("sh", "-c", "true")


def test_it_ends_its_streams_at_sigterm(built: float, tmp_path: Path) -> None:
    assert built
    with containers.running(IMAGE, tmp_path, ["demo"], *LOCKED_UP, until="/manage/tokens/") as container:
        token = container.process.output().partition('api_key="')[2].partition('"')[0]
        client = Process(
            container.command("python", "-c", STREAM, token),
            env={"PATH": os.environ["PATH"]},
            log=tmp_path / "client.log",
        )
        client.wait_for_output("data: {")
        container.process.signal(signal.SIGTERM)  # podman passes it on
        assert client.wait() == 0
        assert client.output().endswith("data: [DONE]\n")
        assert container.process.wait() == 0


def test_a_start_keeps_its_data_in_the_volume(built: float, tmp_path: Path) -> None:
    assert built
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 12345, 0)
    for _ in range(2):
        volume = f"--volume={data}:/data"
        with containers.running(IMAGE, tmp_path, [], *LOCKED_UP, volume, until="is up") as container:
            assert json.loads(container.execute("llm-proxy", "project", "list", "--json")) == []
            token = (data / "management_token").read_text()
            container.process.signal(signal.SIGTERM)
            assert container.process.wait() == 0
    assert (data / "management_token").read_text() == token
    assert {path.stat().st_uid for path in data.iterdir()} == {12345}
