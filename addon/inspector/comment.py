"""Writes a flow's comment: model, usage, project and token. mitmweb shows it and filters by it (`~comment`).

Names come from operators and callers: those that are not plain words are quoted, and control characters replaced.
"""

import contextlib
import json
import re

from mitmproxy import http

from addon import annotations
from addon.protocol import json_fields
from addon.protocol.content_coding import decoded_start

MAX_READ = 2 * 1024 * 1024
"""Bytes of a body that are read."""

_OURS = "llm_proxy_comment"
_SEPARATOR = " | "
_PLAIN = re.compile(r"[\w.:/@+-]+")
_LONG_NAME = 100


def write(flow: http.HTTPFlow) -> None:
    """Update the comment of a known token's request. Text that an operator has added stays, after ours."""
    holder = annotations.read(flow)
    if holder is None:
        return
    project, token = f"project={_word(holder.project_name)}", f"token={holder.token_id}"
    names = [project, *([f"token={_word(holder.token_name)}"] if holder.token_name else [])]
    ours = " ".join([*_model_and_usage(flow), *names, *_truncated(flow), token])  # the column shows the start
    theirs = flow.comment.removeprefix(flow.metadata.get(_OURS, "")).removeprefix(_SEPARATOR)
    flow.comment = f"{ours}{_SEPARATOR}{theirs}" if theirs else ours
    flow.metadata[_OURS] = ours


def _model_and_usage(flow: http.HTTPFlow) -> list[str]:
    used = annotations.used(flow)
    model = used.model or _model_asked(flow.request)
    mark = "~" if used.is_estimated else ""
    counts = [f"{name}:{tokens}" for name, tokens in (("in", used.input), ("out", used.output)) if tokens is not None]
    return [*([f"model={_word(model)}"] if model else []), *([f"usage={mark}{','.join(counts)}"] if counts else [])]


def _truncated(flow: http.HTTPFlow) -> list[str]:
    sides = [side for side in annotations.SIDES if annotations.passed(flow, side) is not None]
    return [f"truncated={','.join(sides)}"] if sides else []


def _model_asked(request: http.Request) -> str:
    if "json" in request.headers.get("content-type", "").lower():
        with contextlib.suppress(ValueError):
            coding = request.headers.get("content-encoding", "")
            body = decoded_start(request.raw_content or b"", coding, MAX_READ)
            return json_fields.text(json_fields.parse(body, cut=True), "model") or request.query.get("model", "")
    return request.query.get("model", "")


def _word(name: str) -> str:
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    short = json_fields.shortened(printable, _LONG_NAME)
    return short if _PLAIN.fullmatch(short) else json.dumps(short, ensure_ascii=False)
