"""The pages on several machines and on pools agree with the files beside them, and with the settings."""

import re
from pathlib import Path

import pytest

from store.runtime.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
DEPLOY = DOCS / "deploy"
PAGE = (DOCS / "high-availability.md").read_text()
POOL_PAGE = (DOCS / "connection-pool.md").read_text()
METRICS_PAGE = (DOCS / "metrics.md").read_text()
SHOWN = [
    (PAGE, "nginx", "nginx.conf"),
    (PAGE, "haproxy", "haproxy.cfg"),
    (PAGE, "ini", "llm-proxy@.service"),
    (POOL_PAGE, "nginx", "upstream-pool.nginx.conf"),
    (POOL_PAGE, "haproxy", "upstream-pool.haproxy.cfg"),
]
BALANCERS = ("nginx.conf", "haproxy.cfg")
POOLS = ("upstream-pool.nginx.conf", "upstream-pool.haproxy.cfg")


def setting(name: str) -> float:
    return float(Settings.model_fields[name].default)


def test_every_file_is_linked_and_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE + POOL_PAGE + METRICS_PAGE)
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert {f"deploy/{path.name}" for path in DEPLOY.iterdir()} <= set(links)


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


def test_the_stop_timeout_of_systemd_exceeds_the_drain_timeout() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "llm-proxy@.service").read_text(), re.MULTILINE)
    (drain,) = re.findall(r"^DRAIN_TIMEOUT=(\d+)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert int(stop) >= int(drain) + 10
