import sys
import tomllib
from pathlib import Path

import pytest
from release import DIST, ROOT, SUMS, ReleaseError, main, run, sums


def test_the_wheel_takes_all_files_of_the_packages() -> None:
    """Templates, styles and the contract are among them; tests/soak/test_wheel.py looks into one that is built."""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert targets == {"wheel": {"packages": ["addon", "manage_api", "store"]}}
    assert (ROOT / "manage_api" / "openapi.yaml").read_text() == (ROOT / "openapi.yaml").read_text()


def test_the_checksums_are_checked_by_sha256sum(tmp_path: Path) -> None:
    for name in ("b.whl", "a.tar.gz", SUMS):
        (tmp_path / name).write_text(name)
    (tmp_path / SUMS).write_text(sums(tmp_path))
    assert run("sha256sum", "--check", SUMS, cwd=tmp_path) == "a.tar.gz: OK\nb.whl: OK\n"


def test_a_command_that_fails_is_told_with_its_words() -> None:
    with pytest.raises(ReleaseError, match=r"(?s)-c print.* ended with 3:\nout\nerr\n"):
        run(sys.executable, "-c", "print('out'); import sys; print('err', file=sys.stderr); sys.exit(3)")


def test_arguments_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    before = DIST.exists()
    assert main(["now"]) == 2
    assert capsys.readouterr().err == "./run.sh release takes no arguments.\n"
    assert DIST.exists() == before
