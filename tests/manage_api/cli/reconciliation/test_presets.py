"""Each preset reads a file with the header that is published for it."""

from decimal import Decimal
from pathlib import Path

import pytest

from manage_api.cli.reconciliation import provider_export
from manage_api.cli.reconciliation.presets import PRESETS
from manage_api.cli.reconciliation.provider_export import GroupKey
from store.clock import DAY, from_rfc3339

FIRST = from_rfc3339("2026-10-01")

COMPLETIONS = """\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,\
service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens,input_text_tokens,\
output_text_tokens,input_cached_text_tokens,input_audio_tokens,input_cached_audio_tokens,output_audio_tokens,\
input_image_tokens,input_cached_image_tokens,output_image_tokens
1790812800,1790899200,2026-10-01T00:00:00+00:00,2026-10-02T00:00:00+00:00,proj_1,10.0,user-1,key_1,gpt-4o-2024-08-06,\
FALSE,default,592.0,106.0,57.0,535.0,592.0,106.0,57.0,0.0,0.0,0.0,0.0,0.0,0.0
1790812800,1790899200,2026-10-01T00:00:00+00:00,2026-10-02T00:00:00+00:00,proj_1,1.0,user-1,key_2,gpt-4o-2024-08-06,\
FALSE,default,8.0,4.0,3.0,5.0,6.0,3.0,3.0,2.0,0.0,1.0,0.0,0.0,0.0
1790899200,1790985600,2026-10-02T00:00:00+00:00,2026-10-03T00:00:00+00:00,,,,,,,,,,,,,,,,,,,,
"""
COSTS = """\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,organization_id,\
organization_name
1790812800,1790899200,2026-10-01T00:00:00+00:00,2026-10-02T00:00:00+00:00,0.8958740000000000,usd,,,org-1,Personal
1790899200,1790985600,2026-10-02T00:00:00+00:00,2026-10-03T00:00:00+00:00,,,,,,
"""
USAGE = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,\
usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,\
web_search_count,inference_geo,speed
2026-10-01,claude-haiku-4-5-20251001,key,space,standard,\u2264 200k,189,600,20,700,675,0,not_available,
2026-10-01,claude-haiku-4-5-20251001,key,space,standard,\u2264 200k,10,0,0,0,5,2,us,fast
"""
MODEL_COSTS = """\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,\
inference_geo,speed,api_key_id,api_key_status
2026-10-01,Claude Haiku 4.5,Default,key,message,\u2264 200k,input_no_cache,0.05,0.05,token,not_available,,key_1,active
2026-10-01,Claude Opus 4.5,Default,key,message,\u2264 200k,output,0.30,0.30,token,not_available,,key_1,active
"""


@pytest.mark.parametrize(
    ("preset", "text", "days", "model", "numbers"),
    [
        (
            "openai-completions",
            COMPLETIONS,
            2,
            "gpt-4o-2024-08-06",
            {
                "requests": 11,
                "input_tokens": 600,
                "cached_input_tokens": 60,
                "output_tokens": 110,
                "input_audio_tokens": 2,
                "output_audio_tokens": 1,
            },
        ),
        ("openai-costs", COSTS, 2, None, {"cost_usd": Decimal("0.895874")}),
        (
            "anthropic-usage",
            USAGE,
            1,
            "claude-haiku-4-5-20251001",
            {"input_tokens": 1519, "cached_input_tokens": 700, "output_tokens": 680, "web_searches": 2},
        ),
        ("anthropic-costs", MODEL_COSTS, 1, None, {"cost_usd": Decimal("0.35")}),
    ],
)
def test_a_preset_reads_the_published_format(
    tmp_path: Path, preset: str, text: str, days: int, model: str | None, numbers: dict[str, Decimal]
) -> None:
    file = tmp_path / "export.csv"
    file.write_text(text)
    usage = provider_export.read(file, PRESETS[preset], None, None)
    assert (usage.start, usage.end) == (FIRST, FIRST + days * DAY)
    assert usage.groups == {GroupKey(FIRST, model): numbers}
