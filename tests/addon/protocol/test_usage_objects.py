from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st
from support.upstreams import usages

from addon.protocol.usage_objects import told_cost, total, units_of, usage_in
from store.ledger.usage import MAX_COUNT

PRICED: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", "gpt-4o", usages.CHAT),
    ("chat", "gpt-4o", usages.CHAT_CACHED),
    ("chat", "gpt-4o", usages.CHAT_FUNCTIONS),
    ("chat", "gpt-audio", usages.CHAT_AUDIO),
    ("chat", "gpt-3.5-turbo-instruct", usages.COMPLETION),
    ("responses", "gpt-4.1", usages.RESPONSE),
    ("responses", "o3", usages.RESPONSE_REASONING),
    ("embeddings", "text-embedding-3-small", usages.EMBEDDING),
    ("images", "gpt-image-1", usages.IMAGE),
    ("images", "gpt-image-1.5", usages.IMAGE_DETAILED),
    ("realtime", "gpt-realtime", usages.REALTIME),
    ("live", "whisper-1", usages.WHISPER),
]


@pytest.mark.parametrize(("flavor", "model", "usage"), PRICED)
def test_units_and_price_are_those_of_genai_prices(flavor: str, model: str, usage: dict[str, Any]) -> None:
    answer = {"model": model, "usage": usage, "response": {"usage": usage}}
    theirs = get_snapshot().extract_usage(answer, provider_id="openai", api_flavor=flavor)
    units = units_of(usage)
    assert units is not None
    assert Usage(**units) == theirs.usage
    price = calc_price(Usage(**units), model_ref=model, provider_id="openai")
    assert price.total_price == theirs.calc_price().total_price > 0


def test_a_transcription_by_tokens_is_priced_by_its_audio_tokens() -> None:
    units = units_of(usages.TRANSCRIPTION)
    assert units == {"input_tokens": 14, "output_tokens": 45, "input_text_tokens": 0, "input_audio_tokens": 14}
    price = calc_price(Usage(**units), model_ref="gpt-4o-transcribe", provider_id="openai")
    assert float(price.total_price) == pytest.approx((14 * 6 + 45 * 10) / 1e6)


def test_speech_and_responses_have_the_same_totals() -> None:
    assert units_of(usages.SPEECH) == {"input_tokens": 14, "output_tokens": 101}


@pytest.mark.parametrize(("seconds", "counted"), [(9, 9), (8.2, 9), (0, 0), (0.0, 0)])
def test_seconds_are_rounded_up(seconds: float, counted: int) -> None:
    assert units_of({"type": "duration", "seconds": seconds}) == {"audio_seconds": counted}


@pytest.mark.parametrize("wrong", [True, -1, MAX_COUNT + 1, 1.5, float("nan"), float("inf"), "7", None, [7], {}, 1e300])
def test_an_invalid_count_is_ignored(wrong: object) -> None:
    usage = {"prompt_tokens": wrong, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": wrong}}
    assert units_of(usage) == {"output_tokens": 3}


@pytest.mark.parametrize("wrong", [True, -0.5, float("nan"), float("inf"), float("-inf"), "7", 1e300])
def test_invalid_seconds_are_ignored(wrong: object) -> None:
    assert units_of({"seconds": wrong}) is None


def test_a_whole_number_may_be_a_float() -> None:
    assert units_of({"prompt_tokens": 7.0, "completion_tokens": MAX_COUNT}) == {
        "input_tokens": 7,
        "output_tokens": MAX_COUNT,
    }


@pytest.mark.parametrize("usage", [{}, {"total_tokens": 7}, {"prompt_tokens_details": 7}, {"input_token_details": []}])
def test_an_object_without_counts_has_no_units(usage: dict[str, object]) -> None:
    assert units_of(usage) is None


def test_totals_stay_in_bounds() -> None:
    assert total({"input_tokens": MAX_COUNT}, {"input_tokens": 1, "output_tokens": 2}) == {
        "input_tokens": MAX_COUNT,
        "output_tokens": 2,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just("7"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(usages.REALTIME)), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*usages.CHAT, *usages.REALTIME, "seconds", "cached_tokens"]), JSON))
def test_no_object_raises_or_exceeds_the_bounds(usage: dict[str, object]) -> None:
    assert all(0 <= count <= MAX_COUNT for count in (units_of(usage) or {}).values())


@pytest.mark.parametrize("usage", [usages.MESSAGE_CACHED, usages.MESSAGE_WRITTEN])
def test_units_and_price_of_a_message_of_anthropics_are_those_of_genai_prices(usage: dict[str, Any]) -> None:
    answer = {"model": "claude-sonnet-4-5", "usage": usage}
    theirs = get_snapshot().extract_usage(answer, provider_id="anthropic")
    units = units_of(usage)
    assert units is not None
    assert units["input_tokens"] == 188086 + 21
    price = calc_price(Usage(**units), model_ref="claude-sonnet-4-5", provider_id="anthropic")
    assert price.total_price == theirs.calc_price().total_price > 0


def test_anthropics_names_beside_openais_change_no_total() -> None:
    anthropics = {"cache_read_input_tokens": 80, "cache_creation_input_tokens": 0}
    units = {"input_tokens": 100, "output_tokens": 5, "cache_read_tokens": 80, "cache_write_tokens": 0}
    assert units_of({"prompt_tokens": 100, "completion_tokens": 5, **anthropics}) == units
    details = {"input_tokens_details": {"cached_tokens": 80}}
    assert units_of({"input_tokens": 100, "output_tokens": 5, **details, **anthropics}) == units


def test_a_total_of_parts_stays_in_bounds() -> None:
    assert units_of({"input_tokens": MAX_COUNT, "cache_read_input_tokens": 1}) == {
        "input_tokens": MAX_COUNT,
        "cache_read_tokens": 1,
    }


@pytest.mark.parametrize(
    ("usage", "whole", "output"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 14}, 10, 5),  # less than its parts: of no use
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 22}, 10, 12),
        ({"input_tokens": 10, "output_tokens": 5, "total_tokens": 22}, 10, 12),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115, "cache_read_input_tokens": 100}, 110, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": "22"}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": 4}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": 4, "num_search_queries": 0}, 10, 9),
        ({"prompt_tokens": 10, "completion_tokens": 5, "citation_tokens": 7}, 10, 12),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 27, "cached_tokens": 12}, 22, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 12}, 22, 5),
        (  # cached input beside the input, and reasoning beside the output (xAI)
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 31,
                "cached_tokens": 12,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            22,
            9,
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 22, "connector_tokens": 7}, 17, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "connector_tokens": 7}, 10, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 22, "connector_tokens": None}, 10, 12),
        ({"completion_tokens": 5, "total_tokens": 22}, None, 5),
        ({"prompt_tokens": 10, "completion_tokens": MAX_COUNT, "reasoning_tokens": MAX_COUNT}, 10, MAX_COUNT),
    ],
)
def test_what_totals_leave_out_is_added(usage: dict[str, object], whole: int | None, output: int) -> None:
    units = units_of(usage) or {}
    assert (units.get("input_tokens"), units.get("output_tokens")) == (whole, output)


@pytest.mark.parametrize(
    ("part", "unit"),
    [
        ({"num_cached_tokens": 3}, "cache_read_tokens"),
        ({"prompt_token_details": {"cached_tokens": 3}}, "cache_read_tokens"),
        ({"prompt_tokens_details": {"cache_creation_input_tokens": 3}}, "cache_write_tokens"),
        ({"prompt_tokens_details": {"cache_creation_tokens": 3}}, "cache_write_tokens"),
        ({"prompt_tokens_details": {"image_tokens": 3}}, "input_image_tokens"),
        ({"prompt_tokens_details": {"video_tokens": 3}}, "input_video_tokens"),
        ({"prompt_tokens_details": {"web_search_requests": 3}}, "web_searches"),
        ({"server_tool_use_details": {"web_search_requests": 3}}, "web_searches"),
        ({"completion_tokens_details": {"image_tokens": 3}}, "output_image_tokens"),
    ],
)
def test_a_part_has_many_names(part: dict[str, object], unit: str) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, **part}
    assert units_of(usage) == {"input_tokens": 10, "output_tokens": 5, unit: 3}


@pytest.mark.parametrize(
    "lives",
    [
        {"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}},
        {"prompt_tokens_details": {"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}}},
        {
            "prompt_tokens_details": {
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}
            }
        },
        {"prompt_tokens_details": {"cache_write_details": {"write_5m_tokens": 3, "write_1h_tokens": 2}}},
        {"claude_cache_creation_5_m_tokens": 3, "claude_cache_creation_1_h_tokens": 2},
    ],
)
def test_what_is_written_to_the_cache_is_the_sum_of_its_lives(lives: dict[str, object]) -> None:
    written = {"cache_write_tokens": 5, "cache_write_5m_tokens": 3, "cache_write_1h_tokens": 2}
    assert units_of({"prompt_tokens": 10, **lives}) == {"input_tokens": 10, **written}
    units = units_of({"prompt_tokens": 10, "cache_creation_input_tokens": 6, **lives})
    assert units == {"input_tokens": 10, **written, "cache_write_tokens": 6}


@pytest.mark.parametrize("part", [7, None, [], "7", {}, {"other": 7}, {"image_tokens": None}])
def test_details_of_another_form_are_ignored(part: object) -> None:
    assert units_of({"prompt_tokens": 10, "prompt_tokens_details": part}) == {"input_tokens": 10}


def test_what_is_billed_goes_before_what_a_model_has_read() -> None:
    read = {"tokens": {"input_tokens": 1549, "output_tokens": 95}, "cached_tokens": 1504}
    billed = {"input_tokens": 119, "output_tokens": 44}
    assert units_of({"billed_units": billed, **read}) == billed
    assert units_of({"billed_units": {"search_units": 1}, **read}) is None


def test_pages_are_counted() -> None:
    assert units_of({"pages_processed": 3, "doc_size_bytes": 7}) == {"input_document_pages": 3}


def test_a_total_alone_is_the_input_where_no_tokens_are_made() -> None:
    assert units_of({"total_tokens": 7}, makes_no_tokens=True) == {"input_tokens": 7}
    assert units_of({"completion_tokens": 2, "total_tokens": 7}, makes_no_tokens=True) == {"output_tokens": 2}


def test_summaries_of_a_conversation_are_paid_beside_its_totals() -> None:
    summary = {"type": "compaction", "input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 3}
    answer = {"type": "message", "input_tokens": 10, "output_tokens": 2}
    usage = {"input_tokens": 10, "cache_read_input_tokens": 0, "output_tokens": 2, "iterations": [summary, answer, 7]}
    assert units_of(usage) == {"input_tokens": 35, "cache_read_tokens": 5, "output_tokens": 5}
    assert units_of({**usage, "iterations": 7}) == units_of({**usage, "iterations": None})


@pytest.mark.parametrize(
    "event",
    [
        {"usage": usages.CHAT},
        {"x_groq": {"usage": usages.CHAT}},
        {"choices": [{"finish_reason": None}, {"finish_reason": "stop", "usage": usages.CHAT}]},
        {"usage": None, "usage_info": usages.CHAT},
        {"meta": {"billed_units": usages.CHAT, "tokens": {"input_tokens": 1}}},
    ],
)
def test_a_usage_stands_in_many_places(event: dict[str, object]) -> None:
    assert usage_in(event, event) == usages.CHAT


def test_a_transcript_tells_the_duration_of_its_audio() -> None:
    assert usage_in({"duration": 8.5, "segments": []}, {}) == {"seconds": 8.5}
    assert usage_in({"duration": 8.5, "segments": [], "usage": usages.WHISPER}, {}) == usages.WHISPER


@pytest.mark.parametrize(
    "event", [{}, {"duration": 8.5}, {"choices": [{"usage": usages.CHAT}]}, {"meta": {"total_tokens": 3}}]
)
def test_an_event_may_have_no_usage(event: dict[str, object]) -> None:
    assert usage_in(event, event) == {}


def test_details_go_before_names_at_the_top() -> None:
    usage = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 3}, "cached_tokens": 4}
    assert units_of(usage) == {"input_tokens": 10, "cache_read_tokens": 3}


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.00014}, 140_000_000),
        ({"cost": "0.00014"}, 140_000_000),
        ({"cost": 0}, 0),
        ({"cost": {"input_tokens_cost": 0.001, "total_cost": 0.007}}, 7_000_000_000),
        ({"cost_in_usd_ticks": 37_756_000}, 3_775_600_000),
        ({"estimated_cost": 4.03e-06}, 4_030_000),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 21_000_000_000),
        ({"cost": 0.001, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.02}}, 1_000_000_000),
        ({"cost": 0.001, "is_byok": True}, None),
        ({}, None),
        ({"cost": None}, None),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": "dear"}, None),
        ({"cost": "NaN"}, None),
        ({"cost": 1e300}, None),
        ({"cost": []}, None),
        ({"cost_in_usd_ticks": 1.5}, None),
    ],
)
def test_a_told_cost_is_read(usage: dict[str, object], cost: int | None) -> None:
    assert told_cost(usage) == cost
