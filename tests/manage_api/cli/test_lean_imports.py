import importlib
import subprocess
import sys

from support.gateway.processes import clean_environment

from manage_api.cli.commands import MODULES

HTTP = {"mitmproxy", "flask", "werkzeug", "waitress", "openapi_core", "openapi_spec_validator", "jsonschema"}
STORE = {"peewee", "psycopg", "sqlite3"}
DEMO = {"tornado"}


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules, sep='\\n')"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_supervisor_loads_neither_the_management_api_nor_the_database() -> None:
    """It runs for as long as the gateway, and keeps all modules that it has loaded."""
    modules = loaded(
        "from manage_api.cli import commands, starting; from store.runtime.settings import Settings; Settings.load()"
    )
    assert {"asyncio", "click", "pydantic_settings", "manage_api.cli.supervision.supervisor"} <= modules
    assert not (HTTP | STORE | DEMO) & modules


def test_the_demo_loads_no_upstream_and_no_database() -> None:
    assert not (HTTP | STORE | DEMO) & loaded("import manage_api.demo.command")


def test_no_command_loads_anything_of_the_management_api() -> None:
    modules = loaded(f"import {', '.join({*MODULES.values()})}")
    assert {"peewee", *MODULES.values()} <= modules
    assert not (HTTP | DEMO) & modules


def test_a_command_that_writes_loads_a_validator_and_no_server() -> None:
    modules = loaded("from manage_api import bodies; bodies.check('TokenUpdateRequest', {})")
    assert HTTP & modules == {"jsonschema"}


def test_every_command_is_found() -> None:
    for name, module in MODULES.items():
        assert getattr(importlib.import_module(module), f"{name.replace('-', '_')}_command").name == name
