"""The page on several machines, and the files beside it, say the same as each other and as the settings."""

import re
from pathlib import Path

import pytest

from store.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
DEPLOY = DOCS / "deploy"
PAGE = (DOCS / "several-machines.md").read_text()
FILE_OF = {"nginx": ["nginx.conf"], "haproxy": ["haproxy.cfg"], "ini": ["llm-proxy@.service"]}
BALANCERS = ("nginx.conf", "haproxy.cfg")


def setting(name: str) -> float:
    return float(Settings.model_fields[name].default)


def test_every_file_is_linked_and_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE)
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert {f"deploy/{path.name}" for path in DEPLOY.iterdir()} <= set(links)


@pytest.mark.parametrize("language", ["nginx", "haproxy", "ini"])
def test_what_the_page_shows_of_a_file_stands_in_it(language: str) -> None:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert blocks
    for name in FILE_OF[language]:
        assert [block for block in blocks if block not in (DEPLOY / name).read_text()] == []


def test_what_the_page_shows_of_the_settings_stands_in_the_example() -> None:
    example = (DEPLOY / "environment.example").read_text().splitlines()
    shown = re.findall(r"^[A-Z_]+=.*$", PAGE, re.MULTILINE)
    assert shown
    assert set(shown) <= set(example)


def test_the_example_has_settings_that_there_are() -> None:
    names = re.findall(r"^(\w+)=", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in names} <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", BALANCERS)
def test_the_balancers_are_more_patient_than_the_nodes(name: str) -> None:
    seconds = [int(number) for number in re.findall(r" (\d{3,})s\b", (DEPLOY / name).read_text())]
    assert len(seconds) >= 3
    assert min(seconds) > max(setting("idle_timeout"), setting("first_byte_timeout"))


def test_systemd_gives_a_proxy_its_time_to_drain() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "llm-proxy@.service").read_text(), re.MULTILINE)
    (drain,) = re.findall(r"^DRAIN_TIMEOUT=(\d+)$", (DEPLOY / "environment.example").read_text(), re.MULTILINE)
    assert int(stop) >= int(drain) + 10
