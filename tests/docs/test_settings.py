"""The page of settings agrees with the code, and no page names a setting that does not exist."""

import re

from support.pages import DOCS, PAGES, ROOT, blocks

from store.runtime.settings import Settings

NAMES = {name.upper() for name in Settings.model_fields}

OF_OTHERS = {
    *("PIP_CERT", "TMPDIR", "PATH", "PYTHONMALLOC", "HTTP", "HTTPS"),
    *("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    *("POSTGRESQL_BIN", "TARGET_DATABASE_URL"),
    *("UPSTREAM_ULR", "LOGLEVEL"),  # typing errors, as examples
    "LOCK_ORDER",  # a constant of the code
}
"""Names in capitals that are variables of other programs, or of a command."""


def settings_table() -> str:
    """Write the table as it must stand on the page."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in {None, ""} else ""
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |".replace("|  |", "| |"))
    return "\n".join(rows)


def test_the_table_has_every_setting_with_its_default_and_help() -> None:
    assert settings_table() in (DOCS / "configuration.md").read_text()


def test_every_setting_that_a_page_names_exists() -> None:
    for path in PAGES:
        page = path.read_text()
        named = {*re.findall(r"`([A-Z]+_[A-Z_]+)\b", page)}
        for block in blocks(page):
            if block.language in {"sh", "console"}:
                named |= {*re.findall(r"^(?:export )?([A-Z]+_[A-Z_]+)=", block.text, re.MULTILINE)}
        assert named - NAMES - OF_OTHERS == set(), path.relative_to(ROOT)
