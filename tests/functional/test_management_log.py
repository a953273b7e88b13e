"""The log of the management API: each act and its object, without the value of any token."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway

FIELDS = ("project_id", "token_id", "price_id", "admin_id")
NO_TOKEN = "8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1"


class Operator:
    """Sends requests, and keeps for each the ids that its line must have."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.asked: list[tuple[httpx.Response, dict[str, str]]] = []

    def make(self, field: str, method: str, path: str, body: object) -> dict[str, Any]:
        answer = self._gateway.manage(method, path, body).raise_for_status()
        self.asked.append((answer, {field: answer.json()["id"]}))
        made: dict[str, Any] = answer.json()
        return made

    def ask(self, status: int, method: str, path: str, body: object = None, **named: str) -> None:
        answer = self._gateway.manage(method, path, body)
        assert answer.status_code == status
        self.asked.append((answer, named))


def named(log: str, log_format: str, answer: httpx.Response) -> dict[str, str]:
    """Return the public ids in the line of the request that has this answer."""
    request_id = answer.headers["X-LLM-Proxy-Request-Id"]
    (line,) = (line for line in log.splitlines() if request_id in line)
    if log_format == "json":
        return {name: value for name, value in json.loads(line).items() if name in FIELDS}
    return dict(re.findall(rf"\b({'|'.join(FIELDS)})=(\S+)", line))


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_lines_name_the_object_that_was_made_or_changed(tmp_path: Path, log_format: str) -> None:
    gateway = Gateway(tmp_path, "http://127.0.0.1:9", LOG_FORMAT=log_format)
    operator = Operator(gateway)
    try:
        gateway.start_management()
        project = operator.make("project_id", "POST", "/manage/projects", {"name": "One", "api_key": "sk-one"})["id"]
        token = operator.make("token_id", "POST", "/manage/tokens", {"project_id": project, "name": "Ann"})
        price = operator.make("price_id", "PUT", "/manage/prices", {"model": "m", "rates": {"input": 1}})["id"]
        admin = operator.make("admin_id", "POST", "/manage/admins", {"name": "ops", "role": "viewer"})
        operator.ask(404, "GET", f"/manage/admins/{admin['token']}")
        operator.ask(204, "DELETE", f"/manage/admins/{admin['id']}", admin_id=admin["id"])
        value = token["token"]
        for path in (f"/manage/tokens/{name}" for name in (token["id"], value, value.upper())):
            operator.ask(200, "PATCH", path, {"name": "Ben"}, token_id=token["id"])
            operator.ask(204, "DELETE", path, token_id=token["id"])
            operator.ask(200, "GET", path)
            operator.ask(400, "POST", f"{path}/rotate")
        operator.ask(400, "PATCH", f"/manage/tokens/{value}", {"name": value})
        operator.ask(200, "PATCH", f"/manage/tokens/{value}", {"is_active": True}, token_id=token["id"])
        for grace_seconds in (60, 0):
            path = f"/manage/tokens/{value}/rotate"
            operator.ask(200, "POST", path, {"grace_seconds": grace_seconds}, token_id=token["id"])
        operator.ask(404, "GET", f"/manage/tokens/{value}")
        for folder, other in (("tokens", NO_TOKEN), ("projects", value), ("prices", value)):
            operator.ask(404, "DELETE", f"/manage/{folder}/{other}")
        operator.ask(204, "DELETE", f"/manage/prices/{price}", price_id=price)
        operator.ask(200, "PATCH", f"/manage/projects/{project}", {"name": "Two"}, project_id=project)
        operator.ask(200, "POST", f"/manage/projects/{project}/tokens/revoke", project_id=project)
        operator.ask(204, "DELETE", f"/manage/projects/{project}", project_id=project)
    finally:
        gateway.stop()
    log = gateway.logs()
    assert [named(log, log_format, answer) for answer, _ in operator.asked] == [named for _, named in operator.asked]
    assert value not in log.lower()
    assert admin["token"] not in log
    assert NO_TOKEN not in log
