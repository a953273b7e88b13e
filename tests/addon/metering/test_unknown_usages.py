import time

import pytest

from addon.metering.unknown_usages import UnknownUsages

ENDPOINT = "/v1/chat/completions"


def test_a_form_is_logged_once_a_day(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    forms, now = UnknownUsages(), time.time()
    for count in (7, 8):
        forms.note(ENDPOINT, {"tokens_spent": count, "details": {"inner": 1.5, "none": 0}, "unit": "token"})
    forms.note(ENDPOINT, {"other": 1})
    texts = [
        f"a usage has an unknown form, and stays unknown: {ENDPOINT}: {names}"
        for names in ("details.inner, tokens_spent", "other")
    ]
    assert caplog.messages == texts
    monkeypatch.setattr(time, "time", lambda: now + 24 * 60 * 60)
    forms.note(ENDPOINT, {"other": 2})
    assert caplog.messages == [*texts, texts[1]]


@pytest.mark.parametrize(
    "usage", [{}, {"tokens": 0}, {"tokens": "7"}, {"a b": 1}, {"x" * 41: 1}, {"a": {"b": {"c": 1}}}]
)
def test_a_usage_without_numbers_or_words_is_not_logged(
    usage: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    UnknownUsages().note(ENDPOINT, usage)
    assert caplog.messages == []


def test_forms_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    forms = UnknownUsages()
    for first in "abcdefghijklmnop":
        for second in "abcdefghijklmnop":
            forms.note(ENDPOINT, {first + second: 1})
    assert len(caplog.messages) == 100


def test_no_name_is_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    forms = UnknownUsages()
    forms.note(ENDPOINT, {"0f8fad5bd9cb469fa16570867728950e": 1, "sk-abcdefgh": 2, "tokens_5m": 3})
    assert caplog.messages == [f"a usage has an unknown form, and stays unknown: {ENDPOINT}: tokens_5m"]
