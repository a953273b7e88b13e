"""Checks and rules of the API that its schema cannot state. schemathesis loads this file as its hooks."""

import random
import re
import zoneinfo
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

# schemathesis takes any text for a format that it does not know.
schemathesis.openapi.format("time-zone", st.sampled_from(sorted(zoneinfo.available_timezones())))

_YEAR = re.compile(r"(?!0000)([0-9]{4})(?=-[0-9]{2}-[0-9]{2}T)")


class TokensStayAsLongAsTheirProjects:
    """A created token is found, revoked or not, until its project is deleted, and not after."""

    def __init__(self) -> None:
        self._project_of: dict[str, str] = {}
        self._value_of: dict[str, str] = {}
        self._deleted_projects: set[str] = set()

    def after_response(self, _ctx: Any, response: Any, case: Any) -> None:
        operation, parameters = (case.method, case.path), case.path_parameters or {}
        if operation == ("POST", "/manage/tokens") and response.status_code == 201:
            self._note(response.json())
        elif operation == ("POST", "/manage/tokens/{tokenId}/rotate") and response.status_code == 200:
            token = response.json()
            self._project_of.pop(self._value_of.get(token["id"], ""), None)  # it may work for a grace, or no more
            self._note(token)
        elif operation == ("DELETE", "/manage/projects/{projectId}") and response.status_code == 204:
            self._deleted_projects.add(str(parameters["projectId"]).lower())
        elif case.path == "/manage/tokens/{tokenId}" and response.status_code in {200, 204, 404}:
            project_id = self._project_of.get(str(parameters["tokenId"]).lower())
            if project_id is not None:
                assert (response.status_code == 404) == (project_id in self._deleted_projects)

    def _note(self, token: Any) -> None:
        self._project_of |= {token[name]: token["project_id"] for name in ("id", "token")}
        self._value_of[token["id"]] = token["token"]


schemathesis.check(TokensStayAsLongAsTheirProjects)


_EXAMPLES = {"allowed_models": "gpt-4o", "allowed_endpoints": "* /v1/files*", "allowed_ips": "10.0.0.0/8"}
_LONGEST = {"allowed_models": 128, "allowed_endpoints": 512, "allowed_ips": 64}
_MAX_USD = 20


def map_body(ctx: Any, body: Any) -> Any:
    """Move the `expires_at` of a new token into the future: the API requires it, and no schema can state it.

    The calendar repeats itself every 400 years: a date stays one.
    """
    is_new_token = (ctx.operation.method.upper(), ctx.operation.path) == ("POST", "/manage/tokens")
    if is_new_token and isinstance(body, dict) and isinstance(body.get("expires_at"), str):
        later = _YEAR.sub(lambda year: str(int(year[1]) % 400 + 2400), body["expires_at"])
        return {**body, "expires_at": later}
    return body


schemathesis.hook(map_body)


def _required_form(field: str, value: Any) -> Any:
    """Change texts and lists that the schema allows. What it refuses stays, and has to be refused."""
    if not isinstance(value, list):
        return value
    if field in _EXAMPLES:
        return [_EXAMPLES[field] if _is_text(each, _LONGEST[field]) else each for each in value]
    if field in {"rate_limits", "budgets"} and all(isinstance(each, dict) for each in value):
        kinds = [(str(each.get("per")), "tokens" in each) for each in value]
        first = [each for place, each in enumerate(value) if kinds.index(kinds[place]) == place]
        return [{**each, "usd": "5.00"} if _is_text(each.get("usd"), _MAX_USD) else each for each in first]
    return value


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= longest


def before_call(_ctx: Any, case: Any, _kwargs: Any) -> None:
    """Give a request what the API requires, and no schema can state.

    Entries of policies have a form of their own, and there is one window, or budget, of each kind and length. The
    project of a price that is for all projects is left out: schemathesis takes its null for an id.

    Each request comes from another address: those that a check sends with a wrong token would be slowed down. Not where
    a header is wrong, or missing: schemathesis takes another one for it.
    """
    if isinstance(case.body, dict):
        case.body = {name: _required_form(name, value) for name, value in case.body.items()}
    if (case.query or {}).get("projectId", "") is None:
        del case.query["projectId"]
    if case.meta is None or case.meta.phase.data.parameter_location != ParameterLocation.HEADER:
        case.headers["X-Forwarded-For"] = f"2001:db8:{random.randrange(2**16):x}:{random.randrange(2**16):x}::1"  # noqa: S311


schemathesis.hook(before_call)
