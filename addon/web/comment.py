"""The flow's comment: whose request it is, and what it took. mitmweb shows it and filters by it (`~comment`).

Names come from operators and callers: what is no plain word is quoted, and no control character gets in.
"""

import json
import re

from mitmproxy import http

from addon import annotations
from addon.conversation import summary
from addon.conversation.fields import shortened
from addon.conversation.summary import Summary
from addon.conversation.usage import Usage
from addon.web import content_coding

MAX_READ = 2 * 1024 * 1024
"""Bytes of a body that are looked at."""

_OURS = "llm_proxy_comment"
_SEPARATOR = " | "
_PLAIN = re.compile(r"[\w.:/@+-]+")
_LONG_NAME = 100


def write(flow: http.HTTPFlow) -> None:
    """Write what is known of an admitted request by now; what an operator has added stays, after it."""
    admitted = annotations.read(flow)
    if admitted.token_id is None:
        return
    project, token = f"project={_word(admitted.project_name or '')}", f"token={admitted.token_id}"
    ours = " ".join([project, *_spent(flow), *_cut(flow), token])  # the column shows the start
    theirs = flow.comment.removeprefix(flow.metadata.get(_OURS, "")).removeprefix(_SEPARATOR)
    flow.comment = f"{ours}{_SEPARATOR}{theirs}" if theirs else ours
    flow.metadata[_OURS] = ours


def _spent(flow: http.HTTPFlow) -> list[str]:
    answered = _summary(flow.response)
    model = answered.model or _summary(flow.request).model or flow.request.query.get("model", "")
    words = [f"model={_word(model)}"] if model else []
    return [*words, f"usage={_usage(answered.usage)}"] if answered.usage else words


def _cut(flow: http.HTTPFlow) -> list[str]:
    sides = [side for side in annotations.SIDES if annotations.passed(flow, side) is not None]
    return [f"truncated={','.join(sides)}"] if sides else []


def _summary(message: http.Message | None) -> Summary:
    kind = message.headers.get("content-type", "").lower() if message else ""
    is_stream = kind.startswith("text/event-stream")
    if message is None or not (is_stream or "json" in kind):
        return summary.NOTHING
    try:
        return summary.summary_of(content_coding.decoded_start(message, MAX_READ), is_stream=is_stream)
    except ValueError:
        return summary.NOTHING


def _usage(usage: Usage) -> str:
    told = {"in": usage.input, "out": usage.output}
    return ",".join(f"{name}:{tokens}" for name, tokens in told.items() if tokens is not None)


def _word(name: str) -> str:
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    short = shortened(printable, _LONG_NAME)
    return short if _PLAIN.fullmatch(short) else json.dumps(short, ensure_ascii=False)
