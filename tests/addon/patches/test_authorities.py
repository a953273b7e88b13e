from pathlib import Path

import pytest
from support.gateway.inprocess import assert_json_error, head_and_body, run, running
from support.network.certificates import Authority
from support.upstreams.upstreams import RawUpstream, answer_all

NAME = "localhost"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("setting", ["upstream_ca_file", "ssl_cert_file", "ssl_cert_dir"])
def test_a_certificate_of_a_configured_authority_is_trusted(tmp_path: Path, authority: Authority, setting: str) -> None:
    value = str(tmp_path) if setting == "ssl_cert_dir" else authority.file

    async def main() -> None:
        with RawUpstream(answer_all(), tls=authority.server(NAME)) as upstream:
            url = f"https://{NAME}:{upstream.port}"
            for values, status in (({setting: value}, 200), ({}, 503), ({setting: value}, 200)):
                async with running(tmp_path, url, **values) as proxy:  # type: ignore[arg-type]
                    answer = await proxy.ask(proxy.request())
                    assert head_and_body(answer)[0] == status

    run(main())


def test_configured_authorities_are_added_to_mitmproxys_option(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another")
    options = {"ssl_verify_upstream_trusted_ca": str(other.file)}

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            for one in (authority, other):
                upstream.tls = one.server(NAME)
                url = f"https://{NAME}:{upstream.port}"
                async with running(tmp_path, url, options, upstream_ca_file=authority.file) as proxy:
                    assert head_and_body(await proxy.ask(proxy.request()))[0] == 200

    run(main())


def test_the_usual_authorities_stay_trusted(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another authority stands for the usual ones here: none of those signs for a test."""
    (tmp_path / "usual").mkdir()
    usual = Authority(tmp_path / "usual", "usual")
    monkeypatch.setattr("certifi.where", lambda: str(usual.file))

    async def main() -> None:
        with RawUpstream(answer_all(), tls=usual.server(NAME)) as upstream:
            async with running(tmp_path, f"https://{NAME}:{upstream.port}", upstream_ca_file=authority.file) as proxy:
                assert head_and_body(await proxy.ask(proxy.request()))[0] == 200

    run(main())


def test_a_certificate_of_a_trusted_authority_holds_for_its_names_only(tmp_path: Path, authority: Authority) -> None:
    async def main() -> None:
        with RawUpstream(answer_all(), tls=authority.server("other.test")) as upstream:
            url = f"https://{NAME}:{upstream.port}"
            async with running(tmp_path, url, upstream_ca_file=authority.file) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
            assert upstream.received() == b""

    run(main())
