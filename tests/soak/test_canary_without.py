"""The canary test finds a secret that appears once a protection is removed."""

import shutil
from pathlib import Path

import pytest
from support.attacks.canary import KEY, forms
from support.attacks.protections import WITHOUT, Change
from support.gateway.processes import ROOT
from support.upstreams.upstreams import DemoUpstream

pytestmark = pytest.mark.soak("addon")


def copy_without(folder: Path, changes: list[Change]) -> Path:
    """Copy the packages and change their files; return where the copy is."""
    for package in ("addon", "store"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in changes:
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize("protection", WITHOUT)
def test_the_canary_finds_a_missing_protection(tmp_path: Path, protection: str) -> None:
    run, changes = WITHOUT[protection]
    copy = copy_without(tmp_path / "copy", changes)
    folder = tmp_path / "run"
    folder.mkdir()
    with DemoUpstream.start(tmp_path, key=KEY) as demo:
        done = run(folder, demo, {"PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"})
    found = {"key": done.net.holding(*forms(KEY)), "token": done.net.holding(*forms(done.token))}
    print(f"without {protection}: {found}, elsewhere {len(done.elsewhere)} bytes, {done.outcomes}")
    if protection == "the pin of the destination":
        assert KEY.encode() in done.elsewhere
    elif protection == "the way of replays through the keyed layer":
        assert done.outcomes["replayed"] != 200  # it has no key
    elif "removal" in protection:
        assert b"***" in done.received  # it would be the token, were that not masked too
    else:
        assert found["key"] or found["token"]
