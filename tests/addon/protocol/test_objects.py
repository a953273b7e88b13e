import pytest

from addon.protocol.objects import ended_id, pending_id


@pytest.mark.parametrize("status", ["queued", "in_progress", "validating", "requires_action", "cancelling"])
def test_an_object_under_way_is_pending(status: str) -> None:
    answer: dict[str, object] = {"id": "resp_1", "object": "response", "status": status}
    assert (pending_id(answer), ended_id(answer)) == ("resp_1", None)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete", "expired", "canceled"])
def test_an_object_that_has_ended_is_not(status: str) -> None:
    answer: dict[str, object] = {"id": "batch_1", "object": "batch", "status": status}
    assert (pending_id(answer), ended_id(answer)) == (None, "batch_1")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"id": "resp_1", "object": "response"},
        {"id": "resp_1", "object": "response", "status": None},
        {"id": "file_1", "object": "file", "status": "processed"},
        {"id": "step_1", "object": "thread.run.step", "status": "in_progress"},
        {"id": "x" * 91, "object": "response", "status": "queued"},
        {"id": "a\nb", "object": "response", "status": "queued"},
        {"id": 7, "object": "response", "status": "queued"},
    ],
)
def test_anything_else_is_neither(answer: dict[str, object]) -> None:
    assert (pending_id(answer), ended_id(answer)) == (None, None)
