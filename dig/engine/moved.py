"""Modules and arguments that have another name today: who uses the old one is answered by a line with the new one."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn, ParamSpec, TypeVar

__all__ = ["MOVED", "answer_old_paths", "renamed_arguments", "renamed_names"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

MOVED = {
    "callbacks.codebook": "callbacks.guards",
    "callbacks.finite": "callbacks.guards",
    "callbacks.other_ranks": "callbacks.resume",
    "callbacks.preemption": "callbacks.resume",
    "callbacks.progress": "callbacks.monitoring",
    "callbacks.rollouts": "callbacks.monitoring",
    "callbacks.stories": "callbacks.monitoring",
    "callbacks.throughput": "callbacks.monitoring",
    "callbacks.validation_reports": "callbacks.monitoring",
    "callbacks.vectors": "callbacks.monitoring",
    "datamodules.contents": "datamodules.items",
    "datamodules.download.alarm": "datamodules.download.retry",
    "datamodules.download.hosts": "datamodules.download.pictures",
    "datamodules.download.partial": "datamodules.download.retry",
    "datamodules.download.picture_check": "datamodules.download.pictures",
    "datamodules.download.published": "datamodules.download.files",
    "datamodules.filtering": "datamodules.preparation",
    "datamodules.inspection": "datamodules.problems",
    "datamodules.item_answers": "datamodules.item_sequences",
    "datamodules.item_prompts": "datamodules.prompts",
    "datamodules.pairs": "datamodules.items",
    "datamodules.phrasings": "datamodules.prompts",
    "datamodules.pictures": "datamodules.fetching",
    "datamodules.ragged": "datamodules.histories",
    "datamodules.relations.control": "datamodules.relations.neighbours",
    "datamodules.relations.cooccurrence": "datamodules.relations.neighbours",
    "datamodules.relations.filling": "datamodules.relations.neighbours",
    "datamodules.relations.tables": "datamodules.relations.neighbours",
    "datamodules.shares": "datamodules.loading",
    "datamodules.sources.amazon2014": "datamodules.sources.movielens",
    "datamodules.sources.amazon2018": "datamodules.sources.movielens",
    "datamodules.sources.amazon2023": "datamodules.sources.movielens",
    "datamodules.sources.amazon_ratings": "datamodules.sources.amazon",
    "datamodules.sources.files": "datamodules.sources.base",
    "datamodules.sources.headers": "datamodules.sources.csv_table",
    "datamodules.sources.metadata": "datamodules.sources.catalogue",
    "datamodules.sources.movielens100k": "datamodules.sources.movielens",
    "datamodules.sources.plain": "datamodules.sources.csv_table",
    "datamodules.sources.prices": "datamodules.sources.cells",
    "datamodules.sources.separators": "datamodules.sources.cells",
    "datamodules.slices": "datamodules.splits",
    "datamodules.sources.shop_interests": "datamodules.sources.shop_contents",
    "datamodules.sources.shop_pictures": "datamodules.sources.shop_contents",
    "datamodules.sources.values": "datamodules.sources.base",
    "datamodules.sources.write": "datamodules.sources.base",
    "datamodules.tokens": "datamodules.mixture",
    "datamodules.windows": "datamodules.histories",
    "dig.artifacts": "dig.engine.artifacts",
    "dig.baselines": "dig.recommenders",
    "dig.baselines.eimf": "dig.recommenders.eimf.model",
    "dig.baselines.extraction": "dig.recommenders.eimf.extraction",
    "dig.baselines.intrr": "dig.recommenders.intrr.ranker",
    "dig.baselines.item_knn": "dig.recommenders.item_knn",
    "dig.baselines.popularity": "dig.recommenders.popularity",
    "dig.baselines.sasrec": "dig.recommenders.sasrec.model",
    "dig.baselines.tiger": "dig.recommenders.tiger.model",
    "dig.catalogue": "dig.engine.catalogue",
    "dig.comparison.labels": "dig.comparison.runs",
    "dig.comparison.markup": "dig.comparison.render",
    "dig.comparison.remarks": "dig.comparison.contest",
    "dig.comparison.text": "dig.comparison.render",
    "dig.comparison.wording": "dig.comparison.render",
    "dig.comparison.write": "dig.comparison.render",
    "dig.config.sections.eimf": "dig.recommenders.eimf",
    "dig.config.sections.evaluation": "dig.config.sections.running",
    "dig.config.sections.intrr": "dig.config.sections.backbone",
    "dig.config.sections.item_knn": "dig.recommenders.item_knn",
    "dig.config.sections.labels": "dig.config.sections.mining",
    "dig.config.sections.models": "dig.config.sections.mining",
    "dig.config.sections.numbers": "dig.config.sections.checks",
    "dig.config.sections.one_token": "dig.config.sections.sft",
    "dig.config.sections.relations": "dig.config.sections.sft",
    "dig.config.sections.reward": "dig.config.sections.grpo",
    "dig.config.sections.sasrec": "dig.recommenders.sasrec",
    "dig.config.sections.sequential": "dig.recommenders.sasrec",
    "dig.config.sections.tasks": "dig.config.sections.sft",
    "dig.config.sections.tiger": "dig.recommenders.tiger",
    "dig.config.sections.visual": "dig.config.sections.embedding",
    "dig.console": "dig.engine.console",
    "dig.data_refusals": "dig.data_commands",
    "dig.embeddings.offline": "dig.embeddings.locate",
    "dig.engine.locks": "dig.engine.own_files",
    "dig.engine.resuming": "dig.engine.strategy",
    "dig.engine.stopwatch": "dig.engine.manifest",
    "dig.engine.training_log": "dig.engine.training",
    "dig.entry": "dig.engine.entry",
    "dig.evaluation.catalogue_facts": "dig.evaluation.measures",
    "dig.evaluation.diversity": "dig.evaluation.measures",
    "dig.evaluation.exposure": "dig.evaluation.measures",
    "dig.evaluation.neighbours": "dig.evaluation.codebook",
    "dig.evaluation.slices": "dig.evaluation.paired",
    "dig.evaluation.validity": "dig.evaluation.measures",
    "dig.failures": "dig.engine.failures",
    "dig.folding": "dig.engine.folding",
    "dig.generation.assignment": "dig.generation.intrr",
    "dig.generation.beam_search": "dig.generation.search",
    "dig.generation.cache": "dig.generation.tree_paths",
    "dig.generation.composed_rows": "dig.generation.sid_rows",
    "dig.generation.decoder": "dig.generation.path_model",
    "dig.generation.encoder_decoder": "dig.generation.t5_paths",
    "dig.generation.finite": "dig.generation.search",
    "dig.generation.intrr_view": "dig.generation.intrr_paths",
    "dig.generation.ranking": "dig.generation.search",
    "dig.generation.replicated_paths": "dig.generation.causal_paths",
    "dig.generation.restriction": "dig.generation.trie",
    "dig.generation.scoring": "dig.generation.search",
    "dig.generation.siblings": "dig.generation.intrr_paths",
    "dig.generation.spelling": "dig.generation.vocabulary",
    "dig.generation.tokenizer_files": "dig.generation.vocabulary",
    "dig.generation.view_check": "dig.generation.factory",
    "dig.generation.walk": "dig.generation.search",
    "dig.interest_commands.asking": "dig.interest_commands",
    "dig.interest_commands.common": "dig.interest_commands",
    "dig.interest_commands.labelling": "dig.interest_commands",
    "dig.interest_commands.looking": "dig.interest_commands",
    "dig.interest_commands.plan": "dig.interest_commands",
    "dig.interest_commands.retry": "dig.interest_commands",
    "dig.interest_commands.show": "dig.interest_commands",
    "dig.interest_commands.transfer": "dig.interest_commands",
    "dig.interests.asking.conversation": "dig.interests.models.response",
    "dig.interests.asking.estimate": "dig.interests.asking.budget",
    "dig.interests.asking.evidence": "dig.interests.asking.question",
    "dig.interests.asking.exchange": "dig.interests.asking.client",
    "dig.interests.asking.outcome": "dig.interests.asking.progress",
    "dig.interests.asking.prompt": "dig.interests.asking.question",
    "dig.interests.asking.reading": "dig.interests.asking.run",
    "dig.interests.asking.unanswered": "dig.interests.asking.store",
    "dig.interests.calibration": "dig.interests.classifier",
    "dig.interests.contradictions": "dig.interests.merging",
    "dig.interests.copurchase": "dig.interests.supervision",
    "dig.interests.explicit": "dig.interests.profiles",
    "dig.interests.geometry": "dig.interests.features",
    "dig.interests.hand_labels": "dig.interests.reading",
    "dig.interests.imported": "dig.interests.reading",
    "dig.interests.models.conversation": "dig.interests.models.response",
    "dig.interests.models.pictures": "dig.interests.models",
    "dig.interests.phrases": "dig.interests.lexical",
    "dig.interests.quality": "dig.interests.interest",
    "dig.interests.typical": "dig.interests.profiles",
    "dig.interests.users": "dig.interests.reading",
    "dig.launch": "dig.engine.launch",
    "dig.lazy": "dig.engine.lazy",
    "dig.locks": "dig.engine.own_files",
    "dig.machine": "dig.engine.machine",
    "dig.manifest": "dig.engine.manifest",
    "dig.modules.answer_loss": "dig.modules.losses",
    "dig.modules.byte_dropout": "dig.modules.dropout",
    "dig.modules.catalogue_loss": "dig.modules.losses",
    "dig.modules.eimf": "dig.recommenders.eimf.module",
    "dig.modules.encoders": "dig.modules.clip",
    "dig.modules.explicit": "dig.recommenders.eimf.explicit",
    "dig.modules.interest_losses": "dig.recommenders.eimf.explicit",
    "dig.modules.interest_softmax": "dig.recommenders.eimf.explicit",
    "dig.modules.intrr": "dig.recommenders.intrr.module",
    "dig.modules.intrr_loss": "dig.generation.intrr_paths",
    "dig.modules.new_rows": "dig.modules.sft",
    "dig.modules.sasrec": "dig.recommenders.sasrec.module",
    "dig.modules.schedule": "dig.modules.optimisation",
    "dig.modules.sequential": "dig.recommenders.sasrec.module",
    "dig.modules.tiger": "dig.recommenders.tiger.module",
    "dig.modules.token_loss": "dig.generation.causal_paths",
    "dig.own_files": "dig.engine.own_files",
    "dig.pipeline": "dig.engine.pipeline",
    "dig.proof": "dig.engine.proof",
    "dig.pruning": "dig.engine.pruning",
    "dig.quantization.autoencoder": "dig.quantization.residual",
    "dig.quantization.behaviour": "dig.quantization.features",
    "dig.quantization.collisions": "dig.quantization.semantic_ids",
    "dig.quantization.fusion": "dig.quantization.features",
    "dig.quantization.imported": "dig.quantization.semantic_ids",
    "dig.quantization.ranks": "dig.quantization.residual",
    "dig.quantization.residual_kmeans": "dig.quantization.kmeans",
    "dig.quantization.rotation": "dig.quantization.residual",
    "dig.quantization.terms": "dig.quantization.losses",
    "dig.ranks": "dig.engine.ranks",
    "dig.received.documents": "dig.config.documents",
    "dig.received.footer": "dig.received.tables",
    "dig.recommender.loading": "dig.recommender.recommender",
    "dig.records": "scripts.results",
    "dig.records.benchmarks": "scripts.results.page",
    "dig.records.command": "scripts.results.records",
    "dig.records.curve": "scripts.results.records",
    "dig.records.grid": "scripts.results.tables",
    "dig.records.markdown": "scripts.results.tables",
    "dig.records.page": "scripts.results.page",
    "dig.records.published": "scripts.results.page",
    "dig.records.record": "scripts.results.records",
    "dig.records.store": "scripts.results.records",
    "dig.records.tables": "scripts.results.tables",
    "dig.report.config_diff": "dig.report.data",
    "dig.report.histograms": "dig.report.pictures",
    "dig.report.kinds": "dig.report.people",
    "dig.report.plots.lines": "dig.report.curves",
    "dig.report.plots.recommenders": "dig.report.plots",
    "dig.report.plots.reliability": "dig.report.plots",
    "dig.report.plots.slices": "dig.report.plots",
    "dig.report.plots.style": "dig.report.plots",
    "dig.report.protocols": "dig.report.formats",
    "dig.report.provenance": "dig.report.data",
    "dig.report.scripts": "dig.report.html",
    "dig.report.sections.beyond": "dig.report.sections.metrics",
    "dig.report.sections.codes": "dig.report.sections.run",
    "dig.report.sections.curves": "dig.report.sections.run",
    "dig.report.sections.examples": "dig.report.sections.run",
    "dig.report.sections.interests": "dig.report.sections.run",
    "dig.report.sections.memorization": "dig.report.sections.metrics",
    "dig.report.sections.result": "dig.report.sections.metrics",
    "dig.report.sections.rollouts": "dig.report.sections.run",
    "dig.report.sections.slices": "dig.report.sections.metrics",
    "dig.report.thumbnails": "dig.report.pictures",
    "dig.report.values": "dig.report.formats",
    "dig.rollouts.advantages": "dig.rollouts.objectives",
    "dig.rollouts.reward_terms": "dig.rollouts.rewards",
    "dig.rollouts.rewards.groups": "dig.rollouts.record",
    "dig.rollouts.rewards.interest_aware": "dig.rollouts.rewards",
    "dig.rollouts.rewards.knowledge": "dig.rollouts.rewards",
    "dig.rollouts.rewards.registry": "dig.rollouts.rewards",
    "dig.rollouts.rewards.terms": "dig.rollouts.rewards",
    "dig.rollouts.rewards.total": "dig.rollouts.rewards",
    "dig.rollouts.strategies": "dig.rollouts.record",
    "dig.secrets": "dig.engine.secrets",
    "dig.shell_lines": "dig.engine.shell_lines",
    "dig.slurm.requeue": "dig.slurm.job",
    "dig.slurm.roll_call": "dig.slurm.rank_check",
    "dig.slurm.script": "dig.slurm.submit",
    "dig.slurm.signals": "dig.engine.signals",
    "dig.stages.base": "dig.engine.stage",
    "dig.stages.eimf": "dig.recommenders.eimf.stage",
    "dig.stages.fresh_intrr": "dig.recommenders.intrr.stage",
    "dig.stages.intrr": "dig.recommenders.intrr.stage",
    "dig.stages.item_knn": "dig.stages.adapt",
    "dig.stages.item_training": "dig.recommenders.training",
    "dig.stages.judging": "dig.stages.label",
    "dig.stages.knowledge": "dig.stages.grpo",
    "dig.stages.known": "dig.stages.tokens",
    "dig.stages.mining": "dig.stages.mine",
    "dig.stages.popularity": "dig.stages.adapt",
    "dig.stages.report_data": "dig.stages.report",
    "dig.stages.resuming": "dig.engine.strategy",
    "dig.stages.reward_check": "dig.stages.rewards",
    "dig.stages.reward_needs": "dig.stages.rewards",
    "dig.stages.sasrec": "dig.recommenders.sasrec.stage",
    "dig.stages.sequential": "dig.recommenders.sasrec.stage",
    "dig.stages.strategy": "dig.engine.strategy",
    "dig.stages.tiger": "dig.recommenders.tiger.stage",
    "dig.stages.training": "dig.engine.training",
    "dig.stages.training_log": "dig.engine.training",
    "dig.stopwatch": "dig.engine.manifest",
    "dig.sweeps.axes": "dig.sweeps.page",
    "dig.sweeps.bands": "dig.sweeps.trials",
    "dig.sweeps.command": "dig.sweeps.file",
    "dig.sweeps.effects": "dig.sweeps.check",
    "dig.sweeps.leases": "dig.sweeps.trials",
    "dig.sweeps.ledger": "dig.sweeps.trials",
    "dig.sweeps.metric": "dig.sweeps.settings",
    "dig.sweeps.parameters": "dig.sweeps.space",
    "dig.sweeps.plots": "dig.sweeps.page",
    "dig.sweeps.preview": "dig.sweeps.results",
    "dig.sweeps.quantiles": "dig.sweeps.space",
    "dig.sweeps.workers": "dig.sweeps.worker",
    "dig.tracking.agent": "dig.tracking.connection",
    "dig.tracking.availability": "dig.tracking.connection",
    "dig.tracking.effective": "dig.tracking.logger",
    "dig.tracking.identity": "dig.tracking.connection",
    "dig.tracking.lineage": "dig.tracking.report",
    "dig.tracking.mend": "dig.tracking.records",
    "dig.tracking.tables": "dig.tracking.report",
    "dig.weights": "dig.engine.weights",
}
"""Old path and new path. A package that moves as a whole needs one line, since its parts are looked for within it; a
package that became a module sets ``__path__ = []``, or Python asks nobody about what was within it."""


class _OldPaths:
    """The last that Python asks for a module: what comes here was found nowhere."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Finds nothing.

        Raises:
            ModuleNotFoundError: the module has another name today, which the message tells.
        """
        if name in MOVED:
            raise ModuleNotFoundError(f"the module {name} is called {MOVED[name]} now{_parts(name)}", name=name)


def _parts(package: str) -> str:
    """Where the modules of an old package are: Python asks for the package alone, whichever of them is imported."""
    before, after = f"{package}.", MOVED[package]
    parts = {old.removeprefix(before): new for old, new in MOVED.items() if old.startswith(before) and new != after}
    return "".join(f"{',' if place else ';'} its {name} {new}" for place, (name, new) in enumerate(parts.items()))


def answer_old_paths() -> None:
    """From here on, old paths are answered; what is imported by today's names is not looked at."""
    if _OldPaths not in sys.meta_path:
        sys.meta_path.append(_OldPaths)


def renamed_names(module: str, **today: str) -> Callable[[str], NoReturn]:
    """The ``__getattr__`` of a module that answers earlier names.

    Args:
        module: its ``__name__``.
        today: the name of today, by the earlier one.

    Returns:
        a function that raises ImportError for an earlier name, in a line that has today's.
    """

    def answer(name: str) -> NoReturn:
        if name in today:
            raise ImportError(f"{module}.{name} is called {today[name]} now")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return answer


def renamed_arguments(**today: str) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Answers the earlier names of a function's arguments.

    Args:
        today: the name of today, by the earlier one.

    Returns:
        a decorator; what it returns raises TypeError for an earlier name, in a line that has today's.
    """

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def answered(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            for earlier in today.keys() & kwargs.keys():
                raise TypeError(f"{name}: the argument {earlier} is called {today[earlier]} now")
            return function(*args, **kwargs)

        return answered

    return decorate
