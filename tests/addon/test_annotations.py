from mitmproxy.test import tflow
from support.gateway.flows import TOKEN_ID, admitted_flow

from addon import annotations
from addon.annotations import Used
from store.ledger.usage import Consumption, Metered, Source
from store.request import Holder


def used(source: Source, **units: int) -> Metered:
    return Metered(source, (Consumption("gpt-4o", units),), model="gpt-4o")


def test_annotations_are_read_back() -> None:
    assert annotations.read(admitted_flow(project="Search")) == Holder(TOKEN_ID, None, "1", "Search")
    assert annotations.read(admitted_flow(token_name="Ann's").copy()) == Holder(TOKEN_ID, "Ann's", "1", "Search")


def test_a_flow_without_annotations_has_no_holder() -> None:
    assert annotations.read(tflow.tflow()) is None


def test_an_estimate_is_marked() -> None:
    flow = admitted_flow()
    assert annotations.used(flow) == Used(None, None, None, is_estimated=False)
    annotations.note_used(flow, used(Source.OBSERVED, input_tokens=1, output_tokens=2))
    assert annotations.used(flow) == Used("gpt-4o", 1, 2, is_estimated=False)
    annotations.note_used(flow, used(Source.ESTIMATED, output_tokens=3))
    assert annotations.used(flow.copy()) == Used("gpt-4o", None, 3, is_estimated=True)


def test_a_sum_with_an_estimate_in_it_is_marked() -> None:
    flow = admitted_flow()
    for metered in (
        used(Source.OBSERVED, input_tokens=1),
        Metered(),
        used(Source.ESTIMATED, input_tokens=2, output_tokens=3),
        used(Source.OBSERVED, input_tokens=4, output_tokens=5),
    ):
        annotations.add_used(flow, metered)
    assert annotations.used(flow) == Used("gpt-4o", 7, 8, is_estimated=True)


def test_a_copy_of_a_flow_with_a_truncated_request_is_truncated_too() -> None:
    flow = admitted_flow()
    assert not annotations.is_truncated(flow)
    annotations.note_passed(flow, "response", 5)
    assert not annotations.is_truncated(flow)
    annotations.note_passed(flow, "request", 10)
    assert annotations.is_truncated(flow.copy())
    assert (annotations.passed(flow, "request"), annotations.passed(flow, "response")) == (10, 5)
    annotations.note_passed(flow, "request", None)
    assert not annotations.is_truncated(flow)
