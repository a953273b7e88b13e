import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.gateway.processes import clean_environment

from manage_api.cli.supervision import services
from store.runtime.settings import Settings


def test_the_banner_never_shows_a_management_token(tmp_path: Path) -> None:
    made = services.banner(Settings(data_dir=tmp_path))
    assert f"$(cat {tmp_path / 'management_token'})" in made
    given = services.banner(Settings(data_dir=tmp_path, management_token="a-token-of-the-settings"))
    assert "a-token-of-the-settings" not in given


def test_the_banner_reads_a_given_management_token_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("MANAGEMENT_TOKEN=a-token-of-the-file\n")
    line = next(line for line in services.banner(Settings.load()).splitlines() if "curl" in line)
    read = subprocess.run(
        ["/bin/sh", "-c", line.replace("curl -H", "echo")], capture_output=True, text=True, check=True
    )
    assert read.stdout.startswith("Authorization: Bearer a-token-of-the-file http")
    monkeypatch.setenv("MANAGEMENT_TOKEN", "a-token-of-the-environment")
    assert '"Authorization: Bearer $MANAGEMENT_TOKEN"' in services.banner(Settings.load())


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://127.0.0.1:8082/?token=x", "  mitmweb           http://127.0.0.1:8082/?token=x"),
        ("http://[::1]:8082/", "  mitmweb           http://[::1]:8082/  (log in with your web_password)"),
    ],
)
def test_the_banner_says_how_to_log_in_to_mitmweb(address: str, line: str) -> None:
    settings = Settings(_env_file=None)
    without, lines = (services.banner(settings, *given).splitlines() for given in ([], [address]))
    lines.remove(line)
    assert lines == without


def test_this_python_has_the_configured_allocator() -> None:
    code = "import os; print(os.environ.get('PYTHONMALLOC', ''))"
    env = {**os.environ, **services.ALLOCATOR}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("mimalloc" if sys.version_info >= (3, 13) else "")


def test_no_file_in_the_current_folder_takes_the_place_of_a_module(tmp_path: Path) -> None:
    """`store` is the project's, and `asyncio` is in the standard library; both are imported early."""
    for name in ("asyncio", "store"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    env = clean_environment() | {"MAX_BODY": "many"}
    done = subprocess.run(services.PREPARATION, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "MAX_BODY must be a whole number" in done.stderr) == (2, True)
