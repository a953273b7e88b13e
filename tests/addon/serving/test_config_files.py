import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from mitmproxy.options import Options
from mitmproxy.tools.dump import DumpMaster
from support.gateway.inprocess import run, running

from addon.serving import config_files
from store.errors import StartupError


def use(folder: Path) -> DumpMaster:
    async def main() -> DumpMaster:
        master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
        config_files.use(master, folder)
        return master

    return asyncio.run(main())


def test_the_options_of_the_folder_are_used_and_its_ca_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("http2: false")
    options = use(tmp_path).options
    assert not options.http2
    assert options.confdir == str(tmp_path)
    assert (tmp_path / "mitmproxy-ca.pem").exists()


@pytest.mark.parametrize("text", ["a: [b", "http2: 5", "- a list", "modify_headers: [x]", "no keys"])
def test_malformed_options_end_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(StartupError, match="Cannot use mitmproxy's files"):
        use(tmp_path)


def test_a_damaged_ca_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "mitmproxy-ca.pem").write_text("no certificate")
    with pytest.raises(StartupError, match="Cannot use mitmproxy's files"):
        use(tmp_path)


def test_a_start_loads_the_key_of_the_ca_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bytes] = []
    load = serialization.load_pem_private_key

    def counted(data: bytes, password: bytes | None) -> object:
        loaded.append(data)
        return load(data, password)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy:
            assert proxy.master.addons.get("tlsconfig").certstore.default_privatekey is not None

    config_files._load_key.cache_clear()  # noqa: SLF001
    monkeypatch.setattr(serialization, "load_pem_private_key", counted)
    run(main())
    assert len(loaded) == 1
