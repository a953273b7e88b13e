"""Words for people: limits as they write and read them (`60 requests a minute`, `$100 a month`), titles of sums."""

import re
from collections.abc import Mapping, Sequence

from store.clock import DAY, HOUR, MINUTE

_A = r" ?(?:/|\b(?:per|an?|each|in)\b) ?"
_COUNTED = r"(?P<number>[0-9][0-9,]{0,23}) ?(?P<counted>(?:requests?|tokens?)?)"
_WINDOW = re.compile(rf"{_COUNTED}{_A}(?P<per>[a-z]+)", re.IGNORECASE)
_BUDGET = re.compile(rf"(?:\$|usd)? ?(?P<usd>[0-9.,]{{1,24}}) ?(?:usd|dollars?)?{_A}(?P<per>[a-z]+)", re.IGNORECASE)

WINDOW = "requests or tokens in a window, such as 60/minute or 100000tokens/hour"
BUDGET = "US dollars in a period, such as 100/month or 2.50/day"

ALWAYS_SHOWN = ("requests", "input_tokens", "output_tokens", "cost_usd")
"""The sums that are shown even where they are 0."""

SUMS: Mapping[str, str] = {
    "requests": "requests",
    "refused": "refused",
    "in_flight": "running",
    "estimated": "estimated",
    "unknown": "unknown",
    "unpriced": "unpriced",
    "minimum": "lower bounds",
    "input_tokens": "input",
    "cached_input_tokens": "cached",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "input_audio_tokens": "spoken input",
    "output_audio_tokens": "spoken output",
    "web_searches": "web searches",
    "file_searches": "file searches",
    "code_containers": "containers",
    "tool_calls": "tool calls",
    "images": "images",
    "audio_seconds": "audio (s)",
    "video_seconds": "video (s)",
    "cost_usd": "cost (USD)",
    "told_cost_usd": "told cost (USD)",
    "cost_where_told_usd": "ours where told",
}
"""The titles of the sums of a report (`schemas.usage_sums`)."""

_DURATION = re.compile(r"([1-9][0-9]{0,5}) ?(?:(d)(?:ays?)?|(h)(?:ours?)?|(m)(?:in(?:utes?)?)?)", re.IGNORECASE)
_UNITS = {"d": DAY, "h": HOUR, "m": MINUTE}


def read_window(text: str) -> dict[str, object]:
    """Read a limit of requests or tokens in a window, as the API takes it. Raises ValueError."""
    parts = _matched(_WINDOW, text)
    counted = "tokens" if parts["counted"].lower().startswith("token") else "requests"
    return {counted: int(parts["number"].replace(",", "")), "per": parts["per"].lower()}


def read_budget(text: str) -> dict[str, object]:
    """Read a budget, as the API takes it. Raises ValueError."""
    parts = _matched(_BUDGET, text)
    return {"usd": parts["usd"].replace(",", ""), "per": parts["per"].lower()}


def read_duration(text: str) -> int | None:
    """Read a duration such as 7d, 12h or 30m, in microseconds; None for any other text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return int(match[1]) * _UNITS[str(match[2] or match[3] or match[4]).lower()]


def titles_of_sums(sums: Mapping[str, object]) -> Mapping[str, str]:
    """Return the titles of those sums that are shown, by their names: not those that are 0."""
    return {name: title for name, title in SUMS.items() if name in ALWAYS_SHOWN or sums[name]}


def windows(entries: Sequence[Mapping[str, object]] | None) -> Sequence[str]:
    """Return the windows of `rate_limits` in words that `read_window` reads."""
    return [
        f"{number:,} {counted} {each(per)}"
        for entry in entries or ()
        for per in [entry["per"]]
        for counted, number in entry.items()
        if counted != "per"
    ]


def budgets(entries: Sequence[Mapping[str, object]] | None) -> Sequence[str]:
    """Return budgets in words that `read_budget` reads."""
    return [f"${entry['usd']} {each(entry['per'])}" for entry in entries or ()]


def each(per: object) -> str:
    """Return the words for a period: `a minute`, `an hour`, `in total`."""
    if per == "total":
        return "in total"
    return f"an {per}" if per == "hour" else f"a {per}"


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise ValueError("another form")
    return match
