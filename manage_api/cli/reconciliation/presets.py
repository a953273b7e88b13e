"""The columns of exports whose format is published: each page has a header line with rows below it.

openai-completions   "Model usage" of openai-usage-and-cost-report-2025-10-12.md, below shared/docs/ of
                     https://github.com/xavierjflanagan/Guardian
openai-costs         "Daily totals" of the same page
anthropic-usage      examples/anthropic_console_usage_to_aiecon.py and its test, of
                     https://github.com/wanlonghenry/aiecon
anthropic-costs      internal/importers/anthropic/csv_test.go of https://github.com/axigatelabs/axigate-finops

A cost is compared by day where an export has no name of a model that a response would have: OpenAI's costs have line
items, Anthropic's the titles of models ("Claude Haiku 4.5").
"""

from collections.abc import Mapping

from manage_api.cli.reconciliation.columns import COST, Columns

PRESETS: Mapping[str, Columns] = {
    "openai-completions": Columns(
        day="start_time",
        model="model",
        numbers={
            "requests": ["num_model_requests"],
            "input_tokens": ["input_tokens"],
            "cached_input_tokens": ["input_cached_tokens"],
            "output_tokens": ["output_tokens"],
            "input_audio_tokens": ["input_audio_tokens"],
            "output_audio_tokens": ["output_audio_tokens"],
        },
    ),
    "openai-costs": Columns(day="start_time", model=None, numbers={COST: ["amount_value"]}),
    "anthropic-usage": Columns(
        day="usage_date_utc",
        model="model_version",
        numbers={
            "input_tokens": [
                "usage_input_tokens_no_cache",
                "usage_input_tokens_cache_write_5m",
                "usage_input_tokens_cache_write_1h",
                "usage_input_tokens_cache_read",
            ],
            "cached_input_tokens": ["usage_input_tokens_cache_read"],
            "output_tokens": ["usage_output_tokens"],
            "web_searches": ["web_search_count"],
        },
    ),
    "anthropic-costs": Columns(day="usage_date_utc", model=None, numbers={COST: ["cost_usd"]}),
}
