"""IntRR's settings, and what goes together with one vector per item: a line each for what does not."""

from __future__ import annotations

import pytest

from dig.config import UserError, load_config

ONE = "items.representation=one"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["intrr.assignment.alignment=-0.5"], r"intrr\.assignment\.alignment must not be negative, it is -0\.5"),
        (["intrr.assignment.condition=all"], r"intrr\.assignment\.condition='all' is not one of previous, sum"),
        (["intrr.assignment.softmax=level"], r"intrr\.assignment\.softmax=level needs uid_output=false"),
        (["intrr.assignment.scale=0"], r"intrr\.assignment\.scale must be above 0"),
        (["intrr.hidden_size=10", "intrr.heads=4"], r"intrr\.hidden_size=10 cannot be cut into intrr\.heads=4"),
        (["intrr.dropout=1.0"], r"intrr\.dropout must be at least 0 and below 1"),
        (["intrr.alignment=1"], r"intrr\.alignment"),
        (["items.representation=two"], r"items\.representation='two' is not one of sid, token, composed, one"),
        ([ONE, "backbone.pretrained=some/model"], r"one builds its backbone from scratch; unset backbone\.pretrained"),
        ([ONE, "backbone.config.model_type=llama"], r"not model_type"),
        ([ONE, "backbone.config.hiden_size=64"], r"not hiden_size; did you mean hidden_size\?"),
        ([ONE, "backbone.config.hidden_size=0"], r"backbone\.config\.hidden_size must be a number above 0"),
        ([ONE, "backbone.config.hidden_size=30"], r"hidden_size=30 cannot be cut into backbone\.config\.num_attention"),
        ([ONE, "sft.tasks.title_to_sid.share=1"], r"title_to_sid\.share=1\.0 needs a backbone that knows text"),
        (
            [ONE, "sft.tasks.semantic.share=1", "prompt.max_history=5"],
            r"sft\.tasks\.semantic under items\.representation=one needs room for 6 items, "
            r"prompt\.max_history=5 is too short",
        ),
        ([ONE, "prompt.style=text"], r"reads no text; take prompt\.style=auto"),
        ([ONE, "backbone.gradient_checkpointing=true"], r"has no backbone\.gradient_checkpointing"),
        ([ONE, "sft.label_smoothing=0.1"], r"has no sft\.label_smoothing"),
        ([ONE, "sft.new_rows_steps=5"], r"leave sft\.new_rows_steps out"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(settings: list[str], line: str):
    with pytest.raises(UserError, match=line) as raised:
        load_config("quickstart", settings)
    assert raised.value.exit_code == 2 and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "experiment", ["intrr", "baselines/intrr", "ablations/intrr_paper", "one_token", "one_token_iirg"]
)
def test_the_experiments_load(experiment: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIG_DATA_ROOT", "data")
    config = load_config(experiment)
    assert (config.baselines == ["intrr"]) == (config.items.representation != "one") == ("one_token" not in experiment)
    assert (len(config.relation_tasks) == 2) == (experiment == "one_token_iirg")


def test_one_vector_an_item_goes_with_the_quickstart_as_it_is():
    config = load_config("quickstart", [ONE])
    assert config.items.codes == 0 and config.items.unread == ["items.codes=0"]
