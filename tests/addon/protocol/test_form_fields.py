import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol.form_fields import model_in_form
from addon.protocol.head_and_tail import EDGE, HeadAndTail

FORM_TYPE = "multipart/form-data; boundary=----x; charset=utf-8"


def fed(data: bytes) -> HeadAndTail:
    kept = HeadAndTail()
    kept.feed(data)
    return kept


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = b"".join(
        b'------x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return parts + b"------x--\r\n"


@given(st.binary(max_size=100))
def test_no_bytes_raise(data: bytes) -> None:
    model_in_form(fed(data), FORM_TYPE)


@pytest.mark.parametrize(
    "fields",
    [
        [("model", b"whisper-1"), ("file", bytes(10))],
        [("file", bytes(10)), ("model", b"whisper-1")],
        [("model", b"whisper-1"), ("file", bytes(3 * EDGE))],
        [("file", bytes(3 * EDGE)), ("model", b"whisper-1"), ("language", b"en")],
        [("file", b'name="model"\r\n\r\nfake\r\n'), ("mode", b"a"), ("model_x", b"b"), ("model", b"whisper-1")],
    ],
)
def test_the_model_of_a_form_is_found(fields: list[tuple[str, bytes]]) -> None:
    assert model_in_form(fed(form(*fields)), FORM_TYPE) == "whisper-1"
    assert model_in_form(fed(form(*fields)), 'multipart/form-data; Boundary="----x"') == "whisper-1"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=\ud800", ""])
def test_a_form_without_a_boundary_has_no_model(content_type: str) -> None:
    assert model_in_form(fed(form(("model", b"m"))), content_type) is None


def test_a_form_without_the_field_has_no_model() -> None:
    assert model_in_form(fed(form(("file", b"x"))), FORM_TYPE) is None
