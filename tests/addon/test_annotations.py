from mitmproxy.test import tflow
from support.flows import TOKEN_ID, admitted_flow

from addon import annotations
from store.holder import Holder


def test_what_is_noted_is_read_back() -> None:
    assert annotations.read(admitted_flow(project="Search")) == Holder(TOKEN_ID, None, "1", "Search")
    assert annotations.read(admitted_flow(token_name="Ann's").copy()) == Holder(TOKEN_ID, "Ann's", "1", "Search")


def test_of_a_flow_without_notes_the_holder_is_not_known() -> None:
    assert annotations.read(tflow.tflow()) is None


def test_a_truncated_request_stays_one_in_a_copy_of_its_flow() -> None:
    flow = admitted_flow()
    assert not annotations.is_truncated(flow)
    annotations.note_passed(flow, "response", 5)
    assert not annotations.is_truncated(flow)
    annotations.note_passed(flow, "request", 10)
    assert annotations.is_truncated(flow.copy())
    assert (annotations.passed(flow, "request"), annotations.passed(flow, "response")) == (10, 5)
    annotations.note_passed(flow, "request", None)
    assert not annotations.is_truncated(flow)
