"""The page of errors has every error of the code, and no page names an error that does not exist."""

import re
from pathlib import Path

import pytest
from support.errors import every_kind
from support.pages import DOCS, PAGES, ROOT

from store.errors import GatewayError

PAGE = (DOCS / "reference" / "errors.md").read_text()

type Pair = tuple[int, str]


ERRORS = {(kind.status, kind.code) for kind in every_kind(GatewayError) if kind.__module__ == "store.errors"}


def rows(section: str) -> set[Pair]:
    """Return the statuses and codes of a section's table."""
    table = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", table, re.MULTILINE)
    return {(int(status), code) for status, codes in found for code in re.findall(r"`(\w+)`", codes)}


def test_the_page_has_every_error_and_no_other() -> None:
    assert rows("The proxy's port") | rows("The management port") == ERRORS


def test_the_table_of_the_management_port_has_the_errors_that_are_its_own() -> None:
    own = {"unauthorized", "role_not_allowed", "conflict", "last_admin", "unsupported_media_type"}
    own |= {"too_many_wrong_tokens", "transfer_encoding_unknown", "form_refused", "form_repeated"}
    assert {code for _, code in rows("The management port") - rows("The proxy's port")} == {
        *own,
        *("token_inactive", "token_expired"),  # 400 there
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_error_that_a_page_names_with_its_status_exists(path: Path) -> None:
    named = {(int(status), code) for status, code in re.findall(r"\b([45]\d\d)\s+`(\w+)`", path.read_text())}
    assert named - ERRORS == set()


def test_developers_are_told_what_each_error_of_their_requests_means() -> None:
    page = (DOCS / "for-developers.md").read_text()
    told = set(re.findall(r"\b[45]\d\d `(\w+)`", page))
    rare = {"destination_refused", "not_found", "method_not_allowed", "request_timeout", "expectation_failed"}
    rare |= {"headers_too_large", "internal_error"}
    assert told | rare == {code for _, code in rows("The proxy's port")}
