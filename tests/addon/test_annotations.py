from support.flows import TOKEN_ID, admitted_flow

from addon import annotations


def test_what_is_noted_is_read_back_and_holds_no_secret() -> None:
    flow = admitted_flow(project="Search")
    assert annotations.read(flow) == (TOKEN_ID, "1", "Search")
    assert "sk-never-shown" not in repr(flow.get_state())


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
