from collections.abc import Mapping

from addon.protocol.json_fields import Fields
from addon.protocol.usage_objects import units_of
from addon.protocol.usages_by_model import served_by, shares_of
from store.ledger.usage import Units

ANSWER = {"type": "message", "input_tokens": 10, "output_tokens": 2}
ADVICE = {"type": "advisor_message", "model": "advisor", "input_tokens": 20, "output_tokens": 3}
ADVISED: Fields = {"input_tokens": 10, "output_tokens": 2, "iterations": [ANSWER, ADVICE, ADVICE, 7]}
SERVED: Fields = {**ADVISED, "iterations": [ANSWER, {**ANSWER, "type": "fallback_message", "model": "other"}]}

ONE: Fields = {"prompt_tokens": 10, "completion_tokens": 2}
TWO: Fields = {"prompt_tokens": 5, "completion_tokens": 1}
BOTH: Fields = {"prompt_tokens": 15, "completion_tokens": 3}


def shares(usage: Fields, event: Fields | None = None) -> Mapping[str | None, Units]:
    return shares_of(event or {}, usage, units_of(usage) or {})


def asked(*uses: Fields) -> Fields:
    """Return a breakdown with a model for each of these usages."""
    return {"models": [{"model": f"model-{number}", "usage": usage} for number, usage in enumerate(uses)]}


def test_the_advice_of_another_model_is_paid_beside_the_answer() -> None:
    advice = {"input_tokens": 40, "output_tokens": 6}
    assert shares(ADVISED) == {None: {"input_tokens": 10, "output_tokens": 2}, "advisor": advice}


def test_a_model_may_serve_a_response_in_the_place_of_another() -> None:
    assert (served_by(SERVED), served_by(ADVISED), served_by({})) == ("other", "", "")
    assert shares(SERVED) == {None: {"input_tokens": 10, "output_tokens": 2}}


def test_a_compound_system_is_paid_by_its_models() -> None:
    expected = {"model-0": units_of(ONE), "model-1": units_of(TWO)}
    assert shares(BOTH, {"usage_breakdown": asked(ONE, TWO)}) == expected
    assert shares(BOTH, {"x_groq": {"usage_breakdown": asked(ONE, TWO)}}) == expected


def test_a_breakdown_that_does_not_add_up_tells_nothing() -> None:
    assert shares(BOTH, {"usage_breakdown": asked(BOTH, BOTH)}) == {None: units_of(BOTH)}
    assert shares(BOTH, {"usage_breakdown": {"models": None}}) == {None: units_of(BOTH)}
    assert shares(BOTH, {"usage_breakdown": {"models": [{"usage": BOTH}, 7]}}) == {None: units_of(BOTH)}


def test_images_of_a_response_are_paid_beside_it() -> None:
    made = {"input_tokens": 7, "input_tokens_details": {"text_tokens": 7}, "output_tokens": 9}
    images = {"input_tokens": 7, "input_text_tokens": 7, "output_tokens": 9}
    response: Fields = {"tool_usage": {"image_gen": made, "web_search": {"num_requests": 0}}}
    tools = [{"type": "function"}, {"type": "image_generation", "model": "gpt-image-1"}]
    assert shares(BOTH, {**response, "tools": tools}) == {None: units_of(BOTH), "gpt-image-1": images}
    assert shares(BOTH, response) == {None: units_of(BOTH), "image_generation": images}


def test_a_response_without_images_is_paid_alone() -> None:
    none = {"input_tokens": 0, "output_tokens": 0}
    assert shares(BOTH, {"tool_usage": {"image_gen": none}}) == {None: units_of(BOTH)}
    assert shares(BOTH, {"tool_usage": None}) == {None: units_of(BOTH)}
