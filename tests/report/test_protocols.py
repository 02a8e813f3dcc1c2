from dig.report.protocols import cutoffs, interval_bounds, main_cutoff, main_metric, protocols


def names(metrics: dict) -> list[tuple[str, str]]:
    return [(each.key, each.name) for each in protocols(metrics)]


def test_the_run_s_own_protocol_comes_first_under_its_name():
    both = {"sft": {"test": {}, "test_masked": {}, "mask_history": False}}
    assert names(both) == [("test", "history kept"), ("test_masked", "history masked")]
    masked = {"sft": {"test": {}, "test_unmasked": {}, "mask_history": True}}
    assert names(masked) == [("test", "history masked"), ("test_unmasked", "history kept")]
    assert names({"sft": {"test": {}}}) == [("test", "test")] and names({"sft": {}}) == []


def test_the_main_metric_is_ndcg_at_its_largest_cutoff():
    metrics = {"a": {"test": {"hr@5": 1, "ndcg@5": 1, "ndcg@20": 1, "ndcg@x": 1}}, "b": {"test": {"hr@20": 1}}}
    assert main_metric(metrics) == "ndcg@20" and main_cutoff(metrics) == 20 and cutoffs(metrics, "hr") == [5, 20]
    assert main_metric({}) == "" and main_cutoff({}) == 10 and main_metric({"a": {"test": {"auc": 1}}}) == "auc"


def test_an_interval_is_two_numbers_or_none():
    def bounds(value: object) -> tuple[float, float] | None:
        return interval_bounds({"intervals": {"test": {"hr@5": value}}}, "test", "hr@5")

    assert bounds([0.1, 0.2]) == (0.1, 0.2)
    assert [bounds(each) for each in ([0.1], None, "ab", [None, 0.2], [0.1, float("nan")])] == [None] * 5
    assert interval_bounds({}, "test", "hr@5") is None
