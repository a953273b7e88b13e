from store.database.sql import given, where


def test_conditions_that_are_asked_for_are_joined() -> None:
    conditions = {
        "a = ?": given(1),
        "b = ?": given(None),
        "(c = ? OR d = ?)": ("x", "y"),
        "e IS NULL": (),
        "f = ?": given(0),
    }
    assert where(conditions) == ("a = ? AND (c = ? OR d = ?) AND e IS NULL AND f = ?", [1, "x", "y", 0])


def test_no_condition_leaves_everything() -> None:
    assert where({"a = ?": None}) == ("1 = 1", [])
