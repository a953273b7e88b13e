import importlib.metadata
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from support.gateway.processes import ROOT, clean_environment

from manage_api.cli.commands import main
from store import schema
from store.version import __version__


def test_the_version_is_told_with_those_of_mitmproxy_and_of_the_schema() -> None:
    result = CliRunner().invoke(main, ["--version"])
    newest = max(path.stem for path in schema.MIGRATIONS.glob("*_*.py"))
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [f"LLM Proxy {__version__}", f"mitmproxy {importlib.metadata.version('mitmproxy')}", f"schema {newest}"],
    )


def test_the_help_names_the_data_folder() -> None:
    assert f"Data folder: {Path('data').absolute()}\n" in CliRunner().invoke(main, ["--help"]).output


def test_mitmdump_takes_the_script_of_addon_path(tmp_path: Path) -> None:
    """It is run with a bad setting, at which the project's code ends it."""
    done = subprocess.run(
        ["/bin/bash", "-c", 'script=$(llm-proxy addon-path); echo "$script"; mitmdump -s "$script"'],
        env=clean_environment() | {"PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), "MAX_BODY": "many"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[0] == str(ROOT / "addon" / "proxy.py")
    assert (done.returncode, "MAX_BODY must be a whole number" in done.stderr) == (2, True)
