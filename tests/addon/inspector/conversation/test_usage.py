import json
from typing import Any

import pytest
from support.gateway.conversations import CHAT, response
from support.upstreams.usages import CORPUS

from addon.inspector.conversation.usage import usage_block
from addon.metering.meter import Meter
from store.ledger.usage import Units


def booked(body: object) -> Units:
    """Return the units that the ledger books of a response."""
    meter = Meter("POST", "/v1/chat/completions", None)
    meter.begin_answer(200, "application/json", "")
    meter.feed_answer(json.dumps(body).encode())
    meter.end_answer()
    return meter.read().units


def as_shown(units: Units) -> str:
    """Write units as mitmweb shows them."""
    shown = []
    for total, part, texts in (
        ("input_tokens", "cache_read_tokens", ("in", "cached")),
        ("output_tokens", "output_reasoning_tokens", ("out", "reasoning")),
    ):
        if total in units:
            of_it = f" ({units[part]} {texts[1]})" if units.get(part) else ""
            shown.append(f"{units[total]} {texts[0]}{of_it}")
    return ", ".join(shown)


@pytest.mark.parametrize("usage", CORPUS.values(), ids=CORPUS)
def test_mitmweb_shows_the_usage_that_the_ledger_books(usage: dict[str, Any]) -> None:
    body = {"model": "m", "choices": [], "usage": usage}
    units = booked(body)
    assert units
    text = response(CHAT, body) or ""
    _, _, shown = text.partition("── usage ──\n")
    assert shown.removesuffix("\n") == as_shown(units)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 7.0, "completion_tokens": -1},
        {"prompt_tokens": 10**30, "completion_tokens": 3},
        {"prompt_tokens": True, "input_tokens": 5},
        {"input_tokens": 5, "cache_read_input_tokens": 80, "output_tokens": 2},
        {"prompt_tokens_details": {"audio_tokens": 1}, "input_tokens_details": {"cached_tokens": 4}, "input_tokens": 9},
    ],
)
def test_unusual_numbers_are_read_as_the_ledger_reads_them(usage: dict[str, Any]) -> None:
    body: dict[str, object] = {"model": "m", "choices": [], "usage": usage}
    assert [block.text for block in usage_block(body)] == [as_shown(booked(body))]


@pytest.mark.parametrize("usage", [None, {}, 7, {"total_tokens": 5}, {"seconds": 9}, {"prompt_tokens": "7"}])
def test_a_response_without_tokens_has_no_usage(usage: object) -> None:
    body: dict[str, object] = {"usage": usage}
    assert usage_block(body) == []
    assert usage_block({}) == []
