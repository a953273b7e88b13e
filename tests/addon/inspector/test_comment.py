import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import flowfilter
from mitmproxy.test import tflow
from support.gateway.flows import TOKEN_ID, admitted_flow

from addon import annotations
from addon.inspector import comment
from store.ledger.usage import Consumption, Metered, Source


def used(**units: int) -> Metered:
    return Metered(Source.OBSERVED, (Consumption("gpt-4o-2024", units),), model="gpt-4o-2024")


END = f"project=Search token={TOKEN_ID}"


def test_a_request_shows_its_model_project_and_token() -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o {END}"


def test_a_response_shows_its_model_and_usage() -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    comment.write(flow)
    annotations.note_used(flow, used(input_tokens=12, output_tokens=34))
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o-2024 usage=in:12,out:34 {END}"
    assert flowfilter.match("~comment project=Search", flow)
    assert flowfilter.match(f"~comment token={TOKEN_ID}", flow)
    assert flowfilter.match("~comment model=gpt-4o.*out:34", flow)
    assert not flowfilter.match("~comment model=gpt-3", flow)


def test_an_estimate_is_marked() -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    annotations.note_used(flow, used(input_tokens=12, output_tokens=34)._replace(source=Source.ESTIMATED))
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o-2024 usage=~in:12,out:34 {END}"
    assert flowfilter.match('~comment "usage=~"', flow)


def test_a_named_token_is_found_by_name_and_id() -> None:
    flow = admitted_flow({"model": "gpt-4o"}, token_name="Ann's laptop")
    comment.write(flow)
    assert flow.comment == f'model=gpt-4o project=Search token="Ann\'s laptop" token={TOKEN_ID}'
    assert flowfilter.match("~comment laptop", flow)
    assert flowfilter.match(f"~comment token={TOKEN_ID}", flow)


def test_a_websocket_names_its_model_in_its_path() -> None:
    flow = admitted_flow(path="/v1/realtime?model=gpt-realtime")
    comment.write(flow)
    assert flow.comment == f"model=gpt-realtime {END}"


def test_a_response_without_usage_keeps_the_requested_model() -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    annotations.note_used(flow, Metered())
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o {END}"


def test_a_request_without_its_body_has_no_model() -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    flow.request.raw_content = None
    comment.write(flow)
    assert flow.comment == END


def test_a_truncated_body_is_marked() -> None:
    flow = admitted_flow()
    annotations.note_passed(flow, "request", 5)
    annotations.note_passed(flow, "response", 6)
    comment.write(flow)
    assert flow.comment == f"project=Search truncated=request,response token={TOKEN_ID}"


def test_a_refused_request_gets_no_comment() -> None:
    flow = tflow.tflow(resp=True)
    flow.comment = "mine"
    comment.write(flow)
    assert flow.comment == "mine"


@pytest.mark.parametrize("added", ["look at this", "project=Search token=x"])
def test_an_operators_comment_stays_after_ours(added: str) -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    flow.comment = added
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o {END} | {added}"
    annotations.note_used(flow, used(input_tokens=1))
    comment.write(flow)
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o-2024 usage=in:1 {END} | {added}"


def test_an_operators_change_of_our_comment_stays() -> None:
    flow = admitted_flow({"model": "gpt-4o"})
    comment.write(flow)
    flow.comment += " and mine"
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o {END} |  and mine"
    flow.comment = "only mine"
    comment.write(flow)
    assert flow.comment == f"model=gpt-4o {END} | only mine"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Search", "Search"),
        ("My Search", '"My Search"'),
        ('a "b" \\', r'"a \"b\" \\"'),
        ("", '""'),
        ("Suche-für/alle", "Suche-für/alle"),
        ("x" * 200, '"' + "x" * 100 + '…"'),
        ("a\nb\x1b[31m\u202e\u2028", '"a\ufffdb\ufffd[31m\ufffd\ufffd"'),
    ],
)
def test_a_name_is_one_word(name: str, word: str) -> None:
    flow = admitted_flow({"model": name}, project=name)
    comment.write(flow)
    assert flow.comment == (f"model={word} " if name else "") + f"project={word} token={TOKEN_ID}"


@given(st.text(), st.text())
def test_no_name_adds_control_characters_or_words(project: str, model: str) -> None:
    flow = admitted_flow({"model": model}, project=project)
    comment.write(flow)
    assert flow.comment.isprintable()
    assert flow.comment.count("token=") - project.count("token=") - model.count("token=") <= 1
    flow.comment.encode()
