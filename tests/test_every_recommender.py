"""Every recommender is known by what the registry says of it, wherever recommenders are told apart."""

from __future__ import annotations

from importlib import import_module

import pytest

from dig.config import BASELINES, RECOMMENDERS, load_config, schema
from dig.config.recommenders import COLOURS, resolve
from dig.evaluation.rankers import Scorer
from dig.report.formats import recommender_name
from dig.report.plots import colour_index
from dig.stages import BUILT, Stage
from dig.stages.evaluation import MEASURED
from dig.sweeps.settings import reported
from dig.tracking.logger import samples_a_rank

TRAINED = [name for name, spec in RECOMMENDERS.items() if spec.trained]


def test_the_order_of_every_table():
    assert (*BASELINES, "sft", "grpo") == MEASURED
    assert BASELINES == ("popularity", "item_knn", "sasrec", "tiger", "eimf", "intrr")
    assert TRAINED == ["sasrec", "tiger", "eimf", "intrr", "sft", "grpo"]


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_each_has_a_stage_that_is_called_and_needs_what_it_says(name: str):
    stage, spec = BUILT[name], RECOMMENDERS[name]
    assert isinstance(stage, Stage) and spec.name == name
    assert (stage.name, stage.needs) == (spec.name, spec.needs)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_each_has_a_loader(name: str):
    spec = RECOMMENDERS[name]
    if spec.model is None:
        assert callable(resolve(spec, "loader"))
    else:
        model = resolve(spec, "model")
        assert issubclass(model, Scorer)
        assert all(callable(getattr(model, method)) for method in ("fit", "save", "load"))


def test_each_has_a_colour_and_a_title_of_its_own():
    assert len({colour_index(name) for name in MEASURED}) == len(MEASURED) <= COLOURS
    assert len({recommender_name(name) for name in MEASURED}) == len(MEASURED)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_settings_are_a_section_of_the_configuration(name: str):
    spec, config = RECOMMENDERS[name], load_config("quickstart")
    if spec.settings is not None:
        assert isinstance(spec.of(config), spec.settings)


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained_has_a_name_a_batch_size_and_metrics(name: str):
    config = load_config("quickstart", [f"baselines=[{','.join(BASELINES)}]"])
    assert recommender_name(name).lower() == name and recommender_name(name) != name
    assert isinstance(samples_a_rank(config, name), int)
    assert {"train/loss", "valid/ndcg@10"} <= set(reported(config)[name])


def test_what_is_counted_has_no_batch_size_and_no_metrics():
    config = load_config("quickstart")
    assert [samples_a_rank(config, name) for name in ("popularity", "item_knn")] == [None, None]
    assert not {"popularity", "item_knn"} & set(reported(config))


def test_names_of_before_say_where_they_are():
    for old, new in schema._MOVED.items():
        with pytest.raises(ImportError, match=f"dig.config.schema.{old} is {new}.{old} now"):
            getattr(schema, old)
        assert hasattr(import_module(new), old)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        getattr(schema, "Nothing")  # noqa: B009 - what a type checker knows not to be there
