"""The flow's comment: what a request took, and whose it is. mitmweb shows it and filters by it (`~comment`).

Names come from operators and callers: what is no plain word is quoted, and no control character gets in.
"""

import contextlib
import json
import re

from mitmproxy import http

from addon import annotations
from addon.inspector import content_coding
from addon.protocol import json_fields

MAX_READ = 2 * 1024 * 1024
"""Bytes of a body that are looked at."""

_OURS = "llm_proxy_comment"
_SEPARATOR = " | "
_PLAIN = re.compile(r"[\w.:/@+-]+")
_LONG_NAME = 100


def write(flow: http.HTTPFlow) -> None:
    """Write what is known of a known token's request by now; what an operator has added stays, after it."""
    holder = annotations.read(flow)
    if holder is None:
        return
    project, token = f"project={_word(holder.project_name)}", f"token={holder.token_id}"
    names = [project, *([f"token={_word(holder.token_name)}"] if holder.token_name else [])]
    ours = " ".join([*_spent(flow), *names, *_cut(flow), token])  # the column shows the start
    theirs = flow.comment.removeprefix(flow.metadata.get(_OURS, "")).removeprefix(_SEPARATOR)
    flow.comment = f"{ours}{_SEPARATOR}{theirs}" if theirs else ours
    flow.metadata[_OURS] = ours


def _spent(flow: http.HTTPFlow) -> list[str]:
    used = annotations.used(flow)
    model = used.model or _model_asked(flow.request)
    mark = "~" if used.is_estimated else ""
    told = [f"{name}:{tokens}" for name, tokens in (("in", used.input), ("out", used.output)) if tokens is not None]
    return [*([f"model={_word(model)}"] if model else []), *([f"usage={mark}{','.join(told)}"] if told else [])]


def _cut(flow: http.HTTPFlow) -> list[str]:
    sides = [side for side in annotations.SIDES if annotations.passed(flow, side) is not None]
    return [f"truncated={','.join(sides)}"] if sides else []


def _model_asked(request: http.Request) -> str:
    if "json" in request.headers.get("content-type", "").lower():
        with contextlib.suppress(ValueError):
            body = json_fields.parse(content_coding.decoded_start(request, MAX_READ), cut=True)
            return json_fields.text(body, "model") or request.query.get("model", "")
    return request.query.get("model", "")


def _word(name: str) -> str:
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    short = json_fields.shortened(printable, _LONG_NAME)
    return short if _PLAIN.fullmatch(short) else json.dumps(short, ensure_ascii=False)
