import pytest
from support.clients.page_client import Browser, Page
from support.stores.ledger import settle_request
from support.stores.stores import API_KEY, rows

from store import clock
from store.ledger.usage import Source
from store.management.prices import OwnPrices, PriceRecord
from store.management.projects import ProjectRecord, Projects
from store.money import decimal_text
from store.store import Store

EVIL = "<script>alert('x')</script>\"'>"


@pytest.fixture
def project(store: Store) -> ProjectRecord:
    return Projects(store).create("One", API_KEY)


def prices(store: Store) -> list[PriceRecord]:
    return OwnPrices(store).list()


def set_price(browser: Browser, **values: str) -> Page:
    return browser.send(browser.open("/prices/set"), "Set the price", **values)


def audited(store: Store, action: str) -> list[tuple[object, ...]]:
    return [(row["actor"], row["object_name"]) for row in rows(store, "audit") if row["action"] == action]


def test_without_an_own_price_the_page_says_which_ones_hold(browser: Browser) -> None:
    page = browser.open("/prices")
    assert "There is none: built-in prices hold." in page.text
    assert "Models without a price" not in page.text


def test_a_price_is_set_changed_and_deleted(browser: Browser, store: Store, project: ProjectRecord) -> None:
    page = set_price(browser, model=" my-model ", project_id=project.id, input="2.5", output="10", per_image="0.04")
    assert "The price is set" in page.text
    (record,) = prices(store)
    assert (record.model, record.project_id) == ("my-model", project.id)
    assert {name: decimal_text(rate) for name, rate in record.rates.items()} == {
        "input": "2.5",
        "output": "10",
        "per_image": "0.04",
    }
    assert "my-model One $2.5 $10 $0.04" in page.text
    form = browser.follow(page, "Change")
    fields = form.form("Set the price").fields
    shown = {name: fields[name] for name in ("model", "project_id", "input", "output", "cached_input")}
    assert [*shown.values()] == ["my-model", project.id, "2.5", "10", ""]
    browser.send(form, "Set the price", output="", per_image="0")
    (record,) = prices(store)
    assert {name: decimal_text(rate) for name, rate in record.rates.items()} == {"input": "2.5", "per_image": "0"}
    page = browser.follow(browser.open("/prices"), "Delete …")
    assert "the project One" in page.text
    page = browser.send(page, "Delete the price")
    assert ("It is deleted." in page.text, prices(store)) == (True, [])
    assert audited(store, "price.set") == [("root", "my-model")] * 2
    assert audited(store, "price.delete") == [("root", "my-model")]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"input": "1"}, "Name a model, or choose a project"),
        ({"model": "m"}, "Write one price at least"),
        ({"model": "m", "input": "x"}, "“Input”"),
        ({"model": "m", "input": "-1"}, "“Input”"),
        ({"model": "m", "input": "1e3"}, "“Input”"),
        ({"model": "m", "per_image": "1000000"}, "“Image”"),
        ({"model": "x" * 256, "input": "1"}, "“Model” must have at most 255 characters"),
    ],
)
def test_a_bad_price_is_told_beside_the_form(
    browser: Browser, store: Store, values: dict[str, str], words: str
) -> None:
    page = set_price(browser, **values)
    assert (page.status, words in page.text) == (400, True), page.text
    assert values.items() <= page.form("Set the price").fields.items()
    assert prices(store) == []


def test_a_project_that_is_gone_is_told(browser: Browser, store: Store, project: ProjectRecord) -> None:
    form = browser.open("/prices/set")
    Projects(store).delete(project.id)
    page = browser.send(form, "Set the price", project_id=project.id, input="1")
    assert (page.status, "There is no such project." in page.text) == (404, True)


def test_a_price_of_a_model_is_no_markup(browser: Browser, store: Store) -> None:
    page = set_price(browser, model=EVIL, input="1")
    assert prices(store)[0].model == EVIL
    assert EVIL in page.text
    for shown in (page, browser.follow(page, "Delete …"), browser.follow(page, "Change")):
        assert "<script>alert" not in shown.html
    assert browser.follow(page, "Change").form("Set the price").fields["model"] == EVIL


def test_models_without_a_price_lead_to_the_form(browser: Browser, store: Store, project: ProjectRecord) -> None:
    for model in ("new model/1", None):
        settle_request(store, project_id=project.id, model=model, usage_source=Source.OBSERVED, started_at=clock.now())
    page = browser.open("/prices")
    assert "new model/1 One 1" in page.text
    assert "unknown One 1" in page.text
    form = browser.follow(page, "Set a price")
    assert form.form("Set the price").fields["model"] == "new model/1"


def test_built_in_prices_are_searched(browser: Browser) -> None:
    page = browser.send(browser.open("/prices/built-in"), "Search", q="gpt-4o", provider="OpenAI")
    assert "gpt-4o OpenAI $2.5 $1.25 $10 web searches (thousand): $10" in page.text
    assert "The first 100 of" in browser.open("/prices/built-in").text
    assert "No model has a name like this" in browser.open("/prices/built-in?q=nothing-like-it").text
    assert "<script>alert" not in browser.open(f"/prices/built-in?q={EVIL}").html


def test_a_price_that_is_gone_is_not_found(browser: Browser) -> None:
    path = "/prices/4e9e2930-8b67-4da4-8974-c4b7e842b758/delete"
    page = browser.open(path)
    assert page.status == 404
    assert browser.post(path, page.forms[0].fields).status == 404


def test_a_viewer_reads_prices_and_changes_none(viewer: Browser, store: Store) -> None:
    OwnPrices(store).set({}, model="m")
    page = viewer.open("/prices")
    assert "m all projects" in page.text
    assert not {"Set a price", "Change", "Delete …"} & page.links.keys()
    assert viewer.follow(page, "Built-in prices").status == 200
