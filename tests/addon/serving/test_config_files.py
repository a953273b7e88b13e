import asyncio
from pathlib import Path

import pytest
from mitmproxy.options import Options
from mitmproxy.tools.dump import DumpMaster

from addon.serving import config_files
from store.errors import StartupError


def use(folder: Path) -> DumpMaster:
    async def main() -> DumpMaster:
        master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
        config_files.use(master, folder)
        return master

    return asyncio.run(main())


def test_the_options_of_the_folder_hold_and_its_ca_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("http2: false")
    options = use(tmp_path).options
    assert not options.http2
    assert options.confdir == str(tmp_path)
    assert (tmp_path / "mitmproxy-ca.pem").exists()


@pytest.mark.parametrize("text", ["a: [b", "http2: 5", "- a list", "modify_headers: [x]", "no keys"])
def test_options_that_are_wrong_end_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(StartupError, match="Cannot use mitmproxy's files"):
        use(tmp_path)


def test_a_damaged_ca_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "mitmproxy-ca.pem").write_text("no certificate")
    with pytest.raises(StartupError, match="Cannot use mitmproxy's files"):
        use(tmp_path)
