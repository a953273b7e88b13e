"""Checks and rules of the API that its schema cannot state. schemathesis loads this file as its hooks."""

import re
from typing import Any

import schemathesis

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


def before_call(_ctx: Any, case: Any, _kwargs: Any) -> None:
    """Leave out the project of a price that is for all projects: it takes the null for an id."""
    if (case.query or {}).get("projectId", "") is None:
        del case.query["projectId"]


schemathesis.hook(before_call)
