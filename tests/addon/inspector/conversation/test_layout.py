import pytest
from support.gateway.conversations import FORMATS, response

from addon.inspector.conversation.layout import size
from addon.inspector.conversation.rendering import Format


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            {"error": {"message": "No such model", "type": "invalid_request_error", "code": "model_not_found"}},
            "No such model\ntype: invalid_request_error, code: model_not_found",
        ),
        (
            {"error": "Project is inactive", "code": "project_inactive", "message": "Project is inactive"},
            "Project is inactive\ncode: project_inactive",
        ),
        ({"error": [1]}, "[1]"),
    ],
)
@pytest.mark.parametrize("of", FORMATS.values(), ids=FORMATS)
def test_an_error_is_shown_in_every_format(of: Format, body: object, shown: str) -> None:
    assert response(of, body) == f"── error ──\n{shown}\n"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (34_000, "34 KB"),
        (1_000_000, "1.0 MB"),
        (3_400_000, "3.4 MB"),
    ],
)
def test_a_size_has_a_unit(number: int, shown: str) -> None:
    assert size(number) == shown
