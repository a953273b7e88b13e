import re

import pytest
import yaml
from flask.testing import FlaskClient
from openapi_spec_validator import validate


def text(client: FlaskClient, path: str) -> str:
    with client.get(path) as answer:
        assert answer.status_code == 200
        return answer.get_data(as_text=True)


def test_the_page_needs_no_network(anyone: FlaskClient) -> None:
    page = text(anyone, "/docs")
    assert "://" not in page
    assert 'url: "/openapi.yaml"' in page
    assert "validatorUrl: null" in page
    references = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(references) == 3
    for reference in references:
        assert reference.startswith("/docs/")
        with anyone.get(reference) as answer:
            assert answer.status_code == 200


def test_the_stylesheet_needs_no_network(anyone: FlaskClient) -> None:
    addresses = re.findall(r"url\(([^)]*)\)", text(anyone, "/docs/swagger-ui.css"))
    assert all(address.strip("\"'").startswith("data:") for address in addresses)
    assert "@import" not in text(anyone, "/docs/swagger-ui.css")


@pytest.mark.parametrize("path", ["/docs/", "/docs/nothing.js", "/docs/../app.py", "/docs/%2e%2e/__init__.py"])
def test_other_paths_below_docs_are_not_found(anyone: FlaskClient, path: str) -> None:
    assert anyone.get(path).status_code == 404


def test_openapi_yaml_is_served_and_valid(anyone: FlaskClient) -> None:
    with anyone.get("/openapi.yaml") as answer:
        assert answer.headers["Content-Type"].split(";")[0] == "application/yaml"
        validate(yaml.safe_load(answer.data))
