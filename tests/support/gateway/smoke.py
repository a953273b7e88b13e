"""The smoke test of an installation: its demo answers a request, and counts it. It needs the standard library alone."""

import json
import re
import urllib.request
from collections.abc import Mapping
from typing import Any

_MODEL = "gpt-4o-mini"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT = 20.0


def count_a_request(introduction: str) -> tuple[str, int]:
    """Send a request to the demo that printed this introduction; return its answer, and the token's count then.

    Raises ValueError where this is no introduction, OSError where the demo does not answer.
    """
    proxy = re.search(r"^curl (http://\S+)/chat/completions", introduction, re.MULTILINE)
    token = re.search(r'api_key="(.+?)"', introduction)
    usage = re.search(r'^curl (http://\S+/manage/\S+) -H "Authorization: Bearer (\S+)"$', introduction, re.MULTILINE)
    if not proxy or not token or not usage:
        raise ValueError("this is not what the demo prints")
    body = {"model": _MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
    answer = _ask(f"{proxy[1]}/chat/completions", token[1], json.dumps(body).encode())
    count: int = _ask(usage[1], usage[2])["request_count"]
    text: str = answer["choices"][0]["message"]["content"]
    return text, count


def _ask(url: str, token: str, body: bytes | None = None) -> Mapping[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - http, by the pattern above
    with _OPENER.open(request, timeout=_TIMEOUT) as response:
        answer: Mapping[str, Any] = json.load(response)
        return answer
