import base64
import ssl
from pathlib import Path

import pytest
from support.network.certificates import Authority

from store.network import authorities


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def der(authority: Authority) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.file.read_text())


def test_a_file_may_hold_several_with_text_between_them(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(
        b"# ours\r\n" + authority.file.read_bytes().replace(b"\n", b"\r\n") + b"\xff\n" + other.file.read_bytes()
    )
    assert authorities.of_file(bundle) == [der(authority), der(other)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no certificate in PEM form"),
        (b"\x30\x82\x01\x00", "holds no certificate in PEM form"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds a certificate that is damaged"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "holds a certificate that is damaged"),
        (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "holds a certificate that is damaged"),
    ],
)
def test_a_file_without_a_certificate_is_rejected(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        authorities.of_file(tmp_path / "ca.pem")


def test_one_damaged_certificate_among_good_ones_is_rejected(authority: Authority) -> None:
    cut = base64.b64encode(der(authority)[:-3]).decode()
    authority.file.write_text(
        f"{authority.file.read_text()}-----BEGIN CERTIFICATE-----\n{cut}\n-----END CERTIFICATE-----\n"
    )
    with pytest.raises(ValueError, match="damaged"):
        authorities.of_file(authority.file)


def test_an_unreadable_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file or directory"):
        authorities.of_file(tmp_path / "missing.pem")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        authorities.of_file(tmp_path)


def test_every_good_certificate_of_folders_is_returned_once(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "a7f3e2d1.0").symlink_to(authority.file)
    (folder / "ours.crt").write_bytes(authority.file.read_bytes())
    (folder / "README").write_text("nothing")
    (folder / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "gone").symlink_to(tmp_path / "missing")
    (folder / "below").mkdir()
    assert list(authorities.of_folders([tmp_path / "missing", folder, folder])) == [der(authority)]
    assert not authorities.is_empty(folder)


def test_a_folder_without_certificates_is_empty(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("nothing")
    assert authorities.is_empty(tmp_path)
    assert authorities.is_empty(tmp_path / "missing")
    assert authorities.is_empty(tmp_path / "README")


def test_a_list_of_folders_is_separated_as_openssl_does() -> None:
    assert authorities.folders("/a:/b c::d") == [Path("/a"), Path("/b c"), Path("d")]
    assert authorities.folders("") == []
