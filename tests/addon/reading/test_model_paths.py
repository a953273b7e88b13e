import pytest

from addon.reading.doubt import Doubt
from addon.reading.model_paths import model_in_path


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (b"/v1/models/gpt-5", "gpt-5"),
        (b"/v1/models/gpt-5/", "gpt-5"),
        (b"/v1/models/org%2Fname", "org/name"),
        (b"/v1/models/org/name", "org/name"),
        (b"/v1/models/gpt%2d5", "gpt-5"),
        (b"/v1/%6dodels/gpt-5", "gpt-5"),
        (b"/v1/models", None),
        (b"/v1/models/", None),
        (b"/v1/files/x", None),
    ],
)
def test_the_id_of_a_model_is_decoded_once(path: bytes, model: str | None) -> None:
    assert model_in_path(path) == model


@pytest.mark.parametrize("path", [b"/v1/models/gpt%252d5", b"/v1/models/%00", b"/v1/models/%e6%bc%a2"])
def test_an_id_that_may_be_read_differently_is_a_doubt(path: bytes) -> None:
    with pytest.raises(Doubt):
        model_in_path(path)
