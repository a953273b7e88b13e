import pytest

from manage_api import bodies
from manage_api.pages import forms, presets

FIELDS = (forms.EXPIRES, forms.MAX_REQUESTS, *forms.RULES)
PROJECT_ID = "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1"


@pytest.mark.parametrize("name", ["", *presets.PRESETS])
def test_each_preset_is_a_token_of_the_api(name: str) -> None:
    texts = presets.texts(name)
    assert texts.keys() <= {field.name for field in FIELDS}
    bodies.check("TokenRequest", {"project_id": PROJECT_ID, **forms.body(FIELDS, texts)})


def test_presets_are_told_in_a_line() -> None:
    assert presets.PRESETS["application"].words == "600 requests a minute, $100 a month, expires in 90 days"


def test_an_unknown_preset_has_an_expiry_alone() -> None:
    assert presets.texts("unknown") == {"expires_at": "30 days"}
