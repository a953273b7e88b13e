import pytest

from addon.reading.doubt import Doubt
from addon.reading.model_paths import check_path, model_named_by, plain_path


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/engines/davinci/completions", "davinci"),
        ("/v1/deployments/mine/chat/completions", "mine"),
        ("/v1/models/gemini:generateContent", "gemini"),
        ("/v1/models/org/name/predictions", "org/name"),
        ("/v1/models/gpt-5", None),
        ("/v1/engines/davinci", None),
        ("/v1/chat/completions", None),
    ],
)
def test_some_paths_to_generate_name_the_model(path: str, model: str | None) -> None:
    assert model_named_by(path) == model


@pytest.mark.parametrize("path", [b"/v1/models/gpt%252d5", b"/v1/models/%00", b"/v1/models/%e6%bc%a2"])
def test_a_path_that_is_no_ascii_once_decoded_is_a_doubt(path: bytes) -> None:
    with pytest.raises(Doubt):
        check_path(path)


@pytest.mark.parametrize("path", [b"/v1/chat%2Fcompletions", b"/v1/chat/%63ompletions", b"/v1/a;b", b"/v1/a/./b"])
def test_a_plain_path_has_nothing_to_decode_or_to_drop(path: bytes) -> None:
    with pytest.raises(Doubt):
        plain_path(path)
    assert plain_path(b"/v1/chat/completions/") == "/v1/chat/completions"
