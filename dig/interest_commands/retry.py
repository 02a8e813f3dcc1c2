"""``retry``: asks again what failed for good."""

from __future__ import annotations

from dig.config import Config, UserError
from dig.engine.console import say
from dig.interest_commands.common import built
from dig.stages.asking import campaign_of, open_store
from dig.stages.judging import judge_asker
from dig.stages.mine import named_captions
from dig.stages.mining import Mining, all_askers
from dig.stages.prepare import load_catalogue

__all__ = ["retry"]


def retry(config: Config) -> int:
    """Asks again what failed for good; a run that has these interests then builds on the new answers."""
    if not all_askers(config) and config.labels.source != "judge":
        raise UserError(f"mining.miners={config.mining.miners} asks no model; there is nothing to ask again")
    context = built(config, "prepare")
    if all_askers(config):
        catalogue = load_catalogue(context)
        captions = named_captions(config.mining, set(catalogue["item_id"]))
        with open_store() as store:
            mining = Mining(context, catalogue, captions, store, again=True)
            mining.ask()
        say(f"mining: {sum(outcome.answered for outcome in mining.outcomes.values()):,} more answers")
    if config.labels.enabled and config.labels.source == "judge":
        asker = judge_asker(config)
        with open_store() as store, store.asking(), store.transaction():
            forgotten = store.forget_failures(asker.identity)
            if forgotten:
                store.count_retried(campaign_of(config, [asker]), forgotten)
        say(f"judging: {forgotten:,} failures forgotten; the next run asks {asker.name} again")
    return 0
