"""The pages on installing, several machines and pools agree with the files beside them, and with the settings."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from store.runtime.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DEPLOY = DOCS / "deploy"
PAGE = (DOCS / "several-machines.md").read_text()
INSTALLING = (DOCS / "installing.md").read_text()
POOL_PAGE = (DOCS / "upstream-pool.md").read_text()
METRICS_PAGE = (DOCS / "metrics.md").read_text()
SHOWN = [
    (INSTALLING, "caddyfile", "Caddyfile"),
    (PAGE, "nginx", "nginx.conf"),
    (PAGE, "haproxy", "haproxy.cfg"),
    (PAGE, "ini", "llm-proxy@.service"),
    (POOL_PAGE, "nginx", "upstream-pool.nginx.conf"),
    (POOL_PAGE, "haproxy", "upstream-pool.haproxy.cfg"),
]
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
UNITS = [path.name for path in sorted(DEPLOY.glob("llm-*.*")) if path.is_file()]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
BALANCERS = ("nginx.conf", "haproxy.cfg")
POOLS = ("upstream-pool.nginx.conf", "upstream-pool.haproxy.cfg")


def setting(name: str) -> float:
    return float(Settings.model_fields[name].default)


def test_every_file_is_linked_and_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", INSTALLING + PAGE + POOL_PAGE + METRICS_PAGE)
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert {str(path.relative_to(DOCS)) for path in DEPLOY.rglob("*.*") if path.is_file()} <= set(links)


@pytest.mark.parametrize(("page", "language", "name"), SHOWN, ids=[name for _, _, name in SHOWN])
def test_snippets_of_a_page_are_in_its_file(page: str, language: str, name: str) -> None:
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    assert [block for block in blocks if block not in (DEPLOY / name).read_text()] == []


def test_settings_on_the_page_are_in_the_example() -> None:
    example = (DEPLOY / "environment.example").read_text().splitlines()
    shown = re.findall(r"^[A-Z_]+=.*$", PAGE, re.MULTILINE)
    assert shown
    assert set(shown) <= set(example)


def test_the_example_has_existing_settings_only() -> None:
    names = re.findall(r"^(\w+)=", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in names} <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", BALANCERS + POOLS)
def test_timeouts_of_balancers_and_pools_exceed_those_of_the_nodes(name: str) -> None:
    seconds = [int(number) for number in re.findall(r" (\d{3,})s\b", (DEPLOY / name).read_text())]
    assert len(seconds) >= 3
    assert min(seconds) > max(setting("idle_timeout"), setting("first_byte_timeout"))


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_listens_on_a_privileged_port_of_loopback(name: str) -> None:
    """The key goes there in clear text."""
    (address,) = re.findall(r"^ *(?:listen|bind) ([^\s;]+)", (DEPLOY / name).read_text(), re.MULTILINE)
    (url,) = re.findall(r"^UPSTREAM_URL=(.*)$", POOL_PAGE, re.MULTILINE)
    assert url == f"http://{address}"
    host, _, port = address.partition(":")
    assert host == "127.0.0.1"
    assert int(port) < 1024


def test_the_stop_timeouts_exceed_the_drain_timeout() -> None:
    def stop(unit: str) -> int:
        (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / unit).read_text(), re.MULTILINE)
        return int(seconds)

    (drain,) = re.findall(r"^DRAIN_TIMEOUT=(\d+)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert stop("llm-proxy@.service") >= int(drain) + 10
    assert stop("llm-proxy.service") >= setting("drain_timeout") + 10
    for service in COMPOSE["services"].values():
        if service["image"] == "llm-proxy":
            assert float(service["stop_grace_period"].removesuffix("s")) >= setting("drain_timeout") + 10


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="there is no systemd")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    """Their commands are another one here, as they are not installed."""
    assert len(UNITS) == 5
    for path in filter(Path.is_file, DEPLOY.rglob("llm-*/*.conf")):
        (tmp_path / path.parent.name).mkdir()
        shutil.copy(path, tmp_path / path.parent.name)
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(re.sub(r"/opt/llm-proxy/\.venv/bin/\S+|/usr/bin/curl", "/bin/true", text))
    units = [f"./{name}" for name in UNITS]
    done = subprocess.run(
        [str(SYSTEMD_ANALYZE), "verify", *units], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def test_compose_has_one_container_by_default_and_a_cluster_in_its_place() -> None:
    default = [name for name, one in COMPOSE["services"].items() if "profiles" not in one]
    assert default == ["llm-proxy"]
    assert (
        service("balancer")["ports"] == service("llm-proxy")["ports"] == ["127.0.0.1:8080:8080", "127.0.0.1:8081:8081"]
    )
    nodes = service("balancer")["depends_on"]
    assert [service(node)["image"] for node in nodes] == ["llm-proxy"] * 2
    balanced = re.findall(r"(\w+):808[01]\b", (DEPLOY / "compose.Caddyfile").read_text())
    assert balanced == [*nodes, *nodes]
    names = {name.lower() for node in nodes for name in service(node)["environment"]}
    assert names <= Settings.model_fields.keys()


def test_a_container_may_write_into_its_volume_alone() -> None:
    for name in ("llm-proxy", "node1", "node2"):
        one = service(name)
        assert (one["read_only"], one["cap_drop"], one["volumes"]) == (True, ["ALL"], ["data:/data"])
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^VOLUME (.*)$", dockerfile, re.MULTILINE) == ["/data"]
    assert "DATA_DIR=/data" in dockerfile
    assert "TMPDIR=/data" in dockerfile


def test_the_image_is_built_from_what_the_wheel_is_built_from() -> None:
    """.dockerignore lets in these alone: no store, no key and no test gets into an image."""
    taken = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert taken == {
        *("addon", "manage_api", "store", "requirements"),
        *("LICENSE", "README.md", "openapi.yaml", "pyproject.toml"),
    }


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_no_registry_is_named(name: str) -> None:
    """An image's name without a host is one of the registry that the operator's tool asks by default."""
    images = re.findall(r"^ARG \w+=(\S+)|^ *image: (\S+)", (ROOT / name).read_text(), re.MULTILINE)
    assert images
    assert [one for pair in images for one in pair if "." in one.partition("/")[0].partition(":")[0]] == []
