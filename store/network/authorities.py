"""Reads certificate authorities to trust beside the usual ones: networks that intercept TLS have their own.

They are read when a process starts, and kept as DER, which every TLS library accepts.
"""

import base64
import contextlib
import os
import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)


def of_file(path: Path) -> Sequence[bytes]:
    """Return the certificates of a PEM file, as DER. Raises ValueError that says what is wrong, without the path."""
    try:
        texts = _texts(path)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not texts:
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return [_der(text, reader) for text in texts]


def folders(text: str) -> Sequence[Path]:
    """Return the folders of a list in the form of SSL_CERT_DIR."""
    return [Path(name) for name in text.split(os.pathsep) if name]


def is_empty(folder: Path) -> bool:
    """Tell whether a folder holds no certificate, or does not exist."""
    return not any(_texts_in(folder))


def of_folders(paths: Iterable[Path]) -> Iterator[bytes]:
    """Return the certificates of all files in folders, as DER, under any file name.

    Folders and files without certificates are skipped: such a list names places to search. Most certificates are there
    several times, under the names that OpenSSL expects, and are returned once.
    """
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for text in dict.fromkeys(text for folder in paths for text in _texts_in(folder)):
        with contextlib.suppress(ValueError):
            yield _der(text, reader)


def _texts_in(folder: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                yield from _texts(path) if path.is_file() else ()


def _texts(path: Path) -> Sequence[bytes]:
    """Return the texts of a file's certificates, in Base64."""
    return [b"".join(text.split()) for text in _CERTIFICATE.findall(path.read_bytes())]


def _der(text: bytes, reader: ssl.SSLContext) -> bytes:
    """Decode a certificate, and check that it can be loaded. Raises ValueError where it is damaged."""
    try:
        der = base64.b64decode(text, validate=True)
        reader.load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError):
        raise ValueError("holds a certificate that is damaged") from None
    return der
