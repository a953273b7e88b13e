"""What schemathesis cannot know by itself. It loads this file as its hooks."""

from typing import Any

import schemathesis


class TokensStayAsLongAsTheirProjects:
    """A token that was created is found, revoked or not, until its project is deleted; then it is not."""

    def __init__(self) -> None:
        self._project_of: dict[str, str] = {}
        self._deleted_projects: set[str] = set()

    def after_response(self, _ctx: Any, response: Any, case: Any) -> None:
        operation, parameters = (case.method, case.path), case.path_parameters or {}
        if operation == ("POST", "/manage/tokens") and response.status_code == 201:
            token = response.json()
            self._project_of |= {token[name]: token["project_id"] for name in ("id", "token")}
        elif operation == ("DELETE", "/manage/projects/{projectId}") and response.status_code == 204:
            self._deleted_projects.add(str(parameters["projectId"]).lower())
        elif case.path == "/manage/tokens/{tokenId}" and response.status_code in {200, 204, 404}:
            project_id = self._project_of.get(str(parameters["tokenId"]).lower())
            if project_id is not None:
                assert (response.status_code == 404) == (project_id in self._deleted_projects)


schemathesis.check(TokensStayAsLongAsTheirProjects)
