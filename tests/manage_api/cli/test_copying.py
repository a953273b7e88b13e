import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.stores.postgresql import Server
from support.stores.stores import API_KEY, make_settings, make_token, opened, set_columns, tree

from manage_api.cli import options
from manage_api.cli.copying import run


@pytest.fixture
def target_url(postgresql_server: Server) -> str:
    return postgresql_server.make_database()


def test_a_copy_prints_the_rows_and_the_warnings(
    tmp_path: Path, target_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(tmp_path)
    with opened(settings) as store:
        token = make_token(store)
        set_columns(store, "token", token.id, sealed_value=b"\x01broken")
    assert run(settings, target_url, lambda: False) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^token +1$", out, re.MULTILINE)
    assert re.search(
        r"Copied to postgresql://127\.0\.0\.1:\d+/\w+ in [\d.]+ s; read back, every row is the same\.", out
    )
    assert err == f"No key of the ring opens 1 ciphertexts, copied as they are: token {token.id}\n"
    with opened(make_settings(tmp_path, database_url=target_url)) as store:
        make_token(store)
    assert run(settings, target_url, lambda: False) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "has been in use since it was copied" in err
    assert err.endswith("No copy was made; the target is as it was.\n")
    assert API_KEY not in err + out


def test_a_copy_writes_json(tmp_path: Path, target_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    with opened(settings) as store:
        token = make_token(store)
        set_columns(store, "token", token.id, sealed_value=b"\x01broken")
    assert run(settings, target_url.replace("postgres@", "postgres:hush-hush@"), lambda: False, as_json=True) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert made["target"].startswith("postgresql://127.0.0.1:")
    assert "hush-hush" not in out + err
    assert (made["rows"]["token"], made["replaced"], made["source_in_use"]) == (1, 0, False)
    assert made["unreadable"] == [f"token {token.id}"]
    assert made["seconds"] > 0


def test_a_stop_makes_the_copy_fail(tmp_path: Path, target_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    assert run(settings, target_url, lambda: True) == 1
    assert capsys.readouterr().err == "Stopped by a signal.\nNo copy was made; the target is as it was.\n"


def test_a_missing_store_is_an_error(tmp_path: Path, target_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(settings, target_url, lambda: False)
    assert ended.value.code == 1
    assert "There is no store at sqlite:///" in capsys.readouterr().err
    assert not settings.data_dir.exists()


@pytest.mark.parametrize(("place", "reason"), [("nowhere", "No such file"), ("file", "Not a directory"), ("", "file")])
def test_a_target_that_cannot_be_made_is_an_error(
    tmp_path: Path, place: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    (tmp_path / "file").touch()
    (tmp_path / "x.db").mkdir()
    before = tree(tmp_path)
    assert run(settings, f"sqlite:///{tmp_path / place}/x.db", lambda: False) == 1
    err = capsys.readouterr().err
    assert err.startswith("The target does not answer: ")
    assert reason in err
    assert tree(tmp_path) == before


def test_a_target_that_does_not_answer_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path)
    with opened(settings):
        pass
    assert run(settings, "postgresql://u:hush-hush@127.0.0.1:1/x", lambda: False) == 1
    err = capsys.readouterr().err
    assert err.startswith("The target does not answer: ")
    assert "hush-hush" not in err


def test_a_bad_url_is_not_quoted() -> None:
    def echo(target: str) -> None:
        click.echo(target)

    command = click.command()(options.target(echo))
    result = CliRunner().invoke(command, env={"TARGET_DATABASE_URL": "mysql://u:hush-hush@h/x"})
    assert result.exit_code == 2
    assert "it must be sqlite:///" in result.output
    assert "hush-hush" not in result.output
    assert CliRunner().invoke(command, ["--to", "postgresql://h/x"]).output == "postgresql://h/x\n"
