"""The owners of limits and policies: tokens and projects, which take them alike."""

from typing import Any

import pytest
from flask.testing import FlaskClient


@pytest.fixture(params=["tokens", "projects"])
def folder(request: pytest.FixtureRequest) -> str:
    """The collection of an owner."""
    name: str = request.param
    return name


@pytest.fixture
def good(folder: str, project_id: str) -> dict[str, Any]:
    """The body that creates an owner."""
    return {"project_id": project_id} if folder == "tokens" else {"name": "Two", "api_key": "sk-second"}


@pytest.fixture
def path(client: FlaskClient, folder: str, good: dict[str, Any]) -> str:
    """The path of an owner."""
    return f"/manage/{folder}/{client.post(f'/manage/{folder}', json=good).get_json()['id']}"
