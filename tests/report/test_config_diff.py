from dig.report.config_diff import Change, config_changes, flow


def test_leaves_that_differ_are_told_in_the_order_of_the_configuration():
    before = {"experiment": "a", "seed": 1, "sft": {"epochs": 3, "tasks": {"x": 1}}, "list": [1, 2], "gone": None}
    after = {"experiment": "b", "sft": {"epochs": 4, "tasks": {"x": 1, "y": 2}}, "list": [1], "seed": 1}
    assert config_changes(before, after) == [
        Change("sft.epochs", "3", "4"),
        Change("sft.tasks.y", None, "2"),
        Change("list", "[1, 2]", "[1]"),
        Change("gone", "null", None),
    ]
    assert config_changes(before, before) == []


def test_values_are_yaml_in_one_line():
    assert [flow(each) for each in (None, True, "a: b", {"k": [1]}, 1e-4, "é" * 200, {})] == [
        "null",
        "true",
        "'a: b'",
        "{k: [1]}",
        "0.0001",
        "é" * 200,
        "{}",
    ]
