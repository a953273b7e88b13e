import re

import pytest
import yaml
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from support.openapi import DOCUMENT

from manage_api.app import create_app
from manage_api.pages.status import Deployment
from store.store import Store


def text(client: FlaskClient, path: str) -> str:
    with client.get(path) as answer:
        assert answer.status_code == 200
        return answer.get_data(as_text=True)


def test_the_page_needs_no_network(anyone: FlaskClient) -> None:
    page = text(anyone, "/docs")
    assert re.findall(r"\w*://", page) == []
    script = text(anyone, "/docs/try-out.js")
    assert 'url: "/openapi.yaml"' in script
    assert "validatorUrl: null" in script
    references = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(references) == 4
    for reference in references:
        assert reference.startswith("/docs/")
        with anyone.get(reference) as answer:
            assert answer.status_code == 200


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/try-out.js", "/docs/swagger-ui.css", "/docs/index.html", "/openapi.yaml"]
)
def test_browsers_run_no_other_script_and_show_the_page_in_no_frame(anyone: FlaskClient, path: str) -> None:
    with anyone.get(path) as answer:
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == (
            "'none'",
            "'self'",
            "'none'",
        )
        assert "blob:" in policy["img-src"]  # an image in a response is shown so
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_the_page_has_no_script_of_its_own(anyone: FlaskClient) -> None:
    scripts = re.findall(r"<script([^>]*)>([^<]*)", text(anyone, "/docs"))
    assert [content for _, content in scripts] == ["", ""]
    assert all(" src=" in attributes for attributes, _ in scripts)


def test_the_page_knows_the_port_of_the_proxy(store: Store) -> None:
    page = text(create_app(store, "", deployment=Deployment(proxy_port=9000)).test_client(), "/docs")
    assert re.findall(r'data-proxy-port="(.*)"', page) == ["9000"]


def test_each_operation_is_at_one_of_the_two_ports() -> None:
    """The page knows the one by the address `/`, and takes all others for the proxy's."""
    proxy = DOCUMENT["servers"]
    assert [server["url"] for server in proxy] == ["http://localhost:8080"]
    for path, item in DOCUMENT["paths"].items():
        servers = [server["url"] for server in item.get("servers", proxy)]
        if path.startswith(("/manage/", "/metrics")):
            assert servers == ["/"], path
        elif path in {"/health", "/ready"}:
            assert servers == ["/", "http://localhost:8080"], path
        else:
            assert servers == ["http://localhost:8080"], path


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
