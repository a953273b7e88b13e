"""The direction of imports: addon -> store <- manage_api, each package within them, and no circles."""

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "store": {"addon", "manage_api", "mitmproxy", "flask", "werkzeug", "waitress", "tests"},
    "addon": {"manage_api", "flask", "werkzeug", "waitress", "tests"},
    "addon/inspector/conversation": {"manage_api", "flask", "werkzeug", "waitress", "tests", "mitmproxy", "store"},
    "addon/protocol": {"manage_api", "flask", "werkzeug", "waitress", "tests", "mitmproxy"},
    "addon/metering": {"manage_api", "flask", "werkzeug", "waitress", "tests", "mitmproxy"},
    "addon/reading": {"manage_api", "flask", "werkzeug", "waitress", "tests", "mitmproxy"},
    "addon/demand": {"manage_api", "flask", "werkzeug", "waitress", "tests", "mitmproxy"},
    "manage_api": {"addon", "mitmproxy", "tests"},
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; mitmproxy loads scripts without a package"
            yield from (f"addon.{name.name}" for name in node.names) if node.module == "addon" else [node.module or ""]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_nothing_that_it_must_not_know(package: str) -> None:
    assert modules(package)
    for path in modules(package):
        packages = {name.partition(".")[0] for name in imported(path)}
        assert not packages & FORBIDDEN[package], path


def test_metering_knows_nothing_of_the_store_but_what_a_usage_is() -> None:
    for path in modules("addon/metering"):
        assert not {name for name in imported(path) if name.startswith("store") and name != "store.ledger.usage"}, path


def test_reading_knows_nothing_but_wire_formats_a_parser_and_the_form_of_what_it_reads() -> None:
    known = {"addon", "jiter", "store.errors", "store.request"}
    for path in modules("addon/reading"):
        names = {name if name.startswith("store") else name.partition(".")[0] for name in imported(path)}
        assert names - sys.stdlib_module_names <= known, path


def test_demand_knows_nothing_of_the_store_but_its_own_form_and_what_a_usage_is() -> None:
    known = {"store.ledger.usage", "store.request"}
    for path in modules("addon/demand"):
        assert not {name for name in imported(path) if name.startswith("store") and name not in known}, path


KNOWN_PARTS = {
    "addon/protocol": {"protocol"},
    "addon/metering": {"demand", "metering", "protocol"},
    "addon/reading": {"demand", "protocol", "reading", "remembered"},
    "addon/demand": {"demand", "protocol", "remembered"},
    "addon/inspector/conversation": {"inspector", "protocol"},
    "addon/inspector": {"annotations", "inspector", "protocol", "replacing", "streaming"},
}
"""The parts of the addon that a package may import."""


@pytest.mark.parametrize("package", KNOWN_PARTS)
def test_a_package_of_the_addon_imports_only_the_parts_that_it_builds_on(package: str) -> None:
    for path in modules(package):
        parts = {name.split(".")[1] for name in imported(path) if name.startswith("addon.")}
        assert parts <= KNOWN_PARTS[package], path


STORE = {
    "network": set[str](),
    "encryption": set[str](),
    "runtime": {"encryption", "network"},
    "database": {"runtime"},
    "limits": {"database"},
    "policies": {"limits", "network"},
    "metrics": {"database"},
    "ledger": {"database", "limits", "metrics", "runtime"},
    "management": {"database", "encryption", "ledger", "limits", "policies", "runtime"},
    "admission": {"database", "encryption", "ledger", "limits", "management", "metrics", "policies", "runtime"},
    "reports": {"database", "ledger", "limits", "management"},
    "operations": {"database", "encryption", "ledger", "management", "runtime"},
}
"""The packages of the store, and those that each of them may import."""


@pytest.mark.parametrize("package", STORE)
def test_a_package_of_the_store_imports_only_those_that_it_builds_on(package: str) -> None:
    for path in modules(f"store/{package}"):
        others = {name.split(".")[1] for name in imported(path) if name.startswith("store.")} & STORE.keys()
        assert others <= STORE[package] | {package}, path


def test_every_package_of_the_store_has_its_place() -> None:
    assert STORE.keys() | {"migrations"} == {path.parent.name for path in (ROOT / "store").glob("*/[!.]*.py")}


def test_rows_of_the_audit_are_only_added_but_for_retention() -> None:
    code = {path: path.read_text() for package in ("addon", "store", "manage_api") for path in modules(package)}
    named = {path.stem for path, text in code.items() if re.search(r"\b(FROM|INTO|UPDATE) audit\b|\bAudit\.", text)}
    assert named == {"audit", "audit_log", "retention"}
    changing = [path for path, text in code.items() if re.search(r"(DELETE FROM|UPDATE) audit\b|\bAudit\.", text)]
    assert changing == []  # `retention` deletes by the name of a table


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {name_of(path): path for package in ("addon", "store", "manage_api") for path in modules(package)}
    graph = {name: names.keys() & set(imported_modules(path)) - {name} for name, path in names.items()}
    assert len(graph["addon.gateway"]) > 5
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the names of modules that a file imports, and others that are no modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_no_module_of_the_addon_is_named_like_one_of_the_standard_library() -> None:
    names = {path.stem for path in (ROOT / "addon").glob("*.py")} | {
        path.name for path in (ROOT / "addon").iterdir() if path.is_dir()
    }
    assert "gateway" in names
    assert not names & sys.stdlib_module_names


PRIVATE_PARTS = ("layers", "patches", "plain", "serving", "inspector")
"""The packages that build on mitmproxy's private parts."""


def test_mitmproxys_private_parts_are_used_in_packages_of_their_own_alone() -> None:
    private = ("mitmproxy.proxy.layers", "mitmproxy.addons", "mitmproxy.proxy.tunnel", "mitmproxy.proxy.server")
    for path in modules("addon"):
        if path.parent.name not in PRIVATE_PARTS:
            assert not [name for name in imported(path) if name.startswith(private)], path


def test_the_way_of_a_request_takes_twelve_files_which_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = re.findall(r"^\| \d+ \| `(.+?)` \|", page, re.MULTILINE)
    assert 10 < len(files) == len(set(files)) <= 12
    named = {*files, *re.findall(r"`((?:addon|store|manage_api|tests)/[\w./]+)`", page)}
    assert not [name for name in named if not (ROOT / name).exists()]
