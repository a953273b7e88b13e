"""The pages on several machines and on pools, and the files beside them, say the same, and as the settings do."""

import re
from pathlib import Path

import pytest

from store.runtime.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
DEPLOY = DOCS / "deploy"
PAGE = (DOCS / "several-machines.md").read_text()
POOL_PAGE = (DOCS / "upstream-pool.md").read_text()
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
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE + POOL_PAGE)
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert {f"deploy/{path.name}" for path in DEPLOY.iterdir()} <= set(links)


@pytest.mark.parametrize(("page", "language", "name"), SHOWN, ids=[name for _, _, name in SHOWN])
def test_what_a_page_shows_of_a_file_stands_in_it(page: str, language: str, name: str) -> None:
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    assert [block for block in blocks if block not in (DEPLOY / name).read_text()] == []


def test_what_the_page_shows_of_the_settings_stands_in_the_example() -> None:
    example = (DEPLOY / "environment.example").read_text().splitlines()
    shown = re.findall(r"^[A-Z_]+=.*$", PAGE, re.MULTILINE)
    assert shown
    assert set(shown) <= set(example)


def test_the_example_has_settings_that_there_are() -> None:
    names = re.findall(r"^(\w+)=", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in names} <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", BALANCERS + POOLS)
def test_balancers_and_pools_are_more_patient_than_the_nodes(name: str) -> None:
    seconds = [int(number) for number in re.findall(r" (\d{3,})s\b", (DEPLOY / name).read_text())]
    assert len(seconds) >= 3
    assert min(seconds) > max(setting("idle_timeout"), setting("first_byte_timeout"))


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_listens_where_nobody_else_can(name: str) -> None:
    """The key goes there in clear text."""
    (address,) = re.findall(r"^ *(?:listen|bind) ([^\s;]+)", (DEPLOY / name).read_text(), re.MULTILINE)
    (url,) = re.findall(r"^UPSTREAM_URL=(.*)$", POOL_PAGE, re.MULTILINE)
    assert url == f"http://{address}"
    host, _, port = address.partition(":")
    assert host == "127.0.0.1"
    assert int(port) < 1024


def test_systemd_gives_a_proxy_its_time_to_drain() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "llm-proxy@.service").read_text(), re.MULTILINE)
    (drain,) = re.findall(r"^DRAIN_TIMEOUT=(\d+)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert int(stop) >= int(drain) + 10
