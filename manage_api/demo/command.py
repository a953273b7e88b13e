"""`llm-proxy demo`: the gateway before the demo upstream, without a key and without a network. Nothing is kept."""

import json
import os
import secrets
import socket
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from manage_api.cli.supervision import services, supervisor
from manage_api.cli.supervision.worker_slot import Service
from store.encryption.crypto import new_key
from store.runtime.settings import Settings

_MODEL = "gpt-4o-mini"

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens the management API's port directly, even where HTTP_PROXY is set."""


async def run(settings: Settings, gateway: Sequence[Service]) -> int:
    """Run the demo with the services of the gateway until it is stopped. Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="llm-proxy-demo-") as folder:
        key, token = f"sk-demo-{secrets.token_hex(12)}", secrets.token_urlsafe(24)
        port = _free_port()
        return await supervisor.run(
            [Service("demo upstream", _upstream(port, key), [[]], is_replaceable=False), *gateway],
            env={**os.environ, **_environment(Path(folder), port, token)},
            on_ready=lambda _: print(introduction(settings, token, _make_token(settings, token, key)), flush=True),
        )


def _upstream(port: int, key: str) -> services.Command:
    return (*services.PYTHON, "-m", "manage_api.demo", "--port", str(port), "--api-key", key)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(folder: Path, port: int, token: str) -> Mapping[str, str]:
    """Return settings that take precedence over .env, so that no real store, key or upstream is touched."""
    return {
        "UPSTREAM_URL": f"http://127.0.0.1:{port}",
        "DATA_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / 'llm-proxy.db'}",
        "MANAGEMENT_TOKEN": token,
        "ENCRYPTION_KEY": new_key(),
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "warning"),
    }


def _make_token(settings: Settings, token: str, key: str) -> str:
    """Make a project and a token over the management API. Returns the token's value."""
    project = _post(settings, token, "/manage/projects", {"name": "Demo", "api_key": key})
    return str(_post(settings, token, "/manage/tokens", {"project_id": project["id"]})["token"])


def _post(settings: Settings, token: str, path: str, body: Mapping[str, object]) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://{settings.manage.from_here}{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with _OPENER.open(request) as response:
        answer: dict[str, object] = json.load(response)
        return answer


def introduction(settings: Settings, management_token: str, token: str) -> str:
    """Return what to try, in a shell and in Python, with the demo's own tokens."""
    return f"""LLM Proxy's demo is up, before an upstream that only pretends. Ctrl-C stops it and forgets everything.

In another terminal:

curl http://{settings.proxy.from_here}/v1/chat/completions \\
  -H "Authorization: Bearer {token}" -H "Content-Type: application/json" \\
  -d '{{"model": "{_MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Or in Python with OpenAI's SDK, such as: python3 -m venv sdk && sdk/bin/pip install openai && sdk/bin/python

from openai import OpenAI

client = OpenAI(base_url="http://{settings.proxy.from_here}/v1", api_key="{token}")
stream = client.chat.completions.create(
    model="{_MODEL}", messages=[{{"role": "user", "content": "Hello!"}}], stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)

How often it was used, and what it cost, in the terminal again:

curl http://{settings.manage.from_here}/manage/tokens/{token} -H "Authorization: Bearer {management_token}"
"""
