from addon.replacing import replace, restore_all


class Base:
    inherited = "its own"


class Replaced(Base):
    value = "first"


def test_restores_the_first_value_of_an_attribute_that_was_replaced_twice() -> None:
    replace(Replaced, "value", "second")
    replace(Replaced, "value", "third")
    assert Replaced.value == "third"
    restore_all()
    assert Replaced.value == "first"


def test_removes_an_attribute_that_was_inherited_before() -> None:
    replace(Replaced, "inherited", "replaced")
    restore_all()
    assert Replaced.inherited == "its own"
    assert "inherited" not in vars(Replaced)


def test_a_second_restore_changes_nothing() -> None:
    replace(Replaced, "value", "second")
    restore_all()
    Replaced.value = "set since"
    restore_all()
    assert Replaced.value == "set since"
    Replaced.value = "first"
