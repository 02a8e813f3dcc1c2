"""One evaluation on one process or on several: ``ranks_of_evaluation.py DEVICES FILE EXAMPLES KIND``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.examples import ExampleDataModule, Examples
from datamodules.item_sequences import HistoryTokens
from datamodules.prompts import ItemPrompts
from datamodules.splits import Sequences
from dig.config.schema import PromptConfig
from dig.evaluation.harness import Harness, NotANumberError, Protocol, other_protocol
from dig.evaluation.measures import CatalogueFacts
from dig.evaluation.memorization import one_hop_candidates, successor_counts
from dig.modules.evaluation import EvaluationModule
from dig.quantization import SemanticIds
from dig.recommenders.intrr.ranker import IntRRRanker
from dig.recommenders.item_knn import ItemKNN, ItemKNNConfig
from dig.recommenders.sasrec import SASRecConfig
from dig.recommenders.sasrec.model import SASRec
from dig.recommenders.tiger import TigerConfig
from dig.recommenders.tiger.model import PAD, Tiger, build_t5, sid_vocabulary
from support import tiny

EXAMPLES, ITEMS = 50, 23


class Broken(ItemKNN):
    """Gives NaN where a history begins with item 3."""

    def scores(self, histories):
        wrong = torch.tensor([int(history[0]) == 3 for history in histories])
        return super().scores(histories).masked_fill(wrong.unsqueeze(1), float("nan"))


def ranker_of(kind: str, data: Sequences) -> Any:
    """Untrained ones have the same random weights wherever they are made."""
    torch.manual_seed(0)
    if kind == "sasrec":
        return SASRec(ITEMS, SASRecConfig(hidden_size=8, max_history=6)).double().eval()  # batches differ by rank
    if kind == "tiger":
        codes = torch.tensor([[item // 5, item % 5] for item in range(ITEMS)])
        model = build_t5([5, 5], TigerConfig(layers=1, d_model=16, d_ff=16, heads=2, d_kv=8)).double()
        return Tiger(model, HistoryTokens(sid_vocabulary([5, 5]).encode(codes), 6, PAD), 8, device="cpu")
    if kind == "intrr":
        codes = torch.tensor([[item // 5, item % 5] for item in range(ITEMS)])
        ids = SemanticIds.from_codes([f"i{item}" for item in range(ITEMS)], codes, [5, 5])
        model = tiny.tiny_intrr(ids, max_history=6, softmax="trie").double()
        return IntRRRanker(model, ItemPrompts(ITEMS, PromptConfig(max_history=6)), 8, device="cpu")
    fit = Broken.fit if kind == "broken" else ItemKNN.fit
    return fit(data.train, ITEMS, ItemKNNConfig(neighbours=5, shrinkage=1.0))


def found_by(devices: int, examples: int = EXAMPLES, kind: str = "item_knn") -> dict:
    """What an evaluation on so many processes finds, as rank 0 has it; of a broken one what is said."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    rows = [random.integers(0, ITEMS, random.integers(4, 9)) for _ in range(examples)]
    data = Sequences.from_lists([f"u{user}" for user in range(examples)], rows)
    held_out = data.held_out("test")
    candidates = one_hop_candidates(successor_counts(data.train, ITEMS), held_out.histories)
    counts = np.bincount(data.train.flat(), minlength=ITEMS)
    facts = CatalogueFacts.of(counts, len(data), [[str(item % 3), str(item % 5)] for item in range(ITEMS)])
    ranker = ranker_of(kind, data)
    protocols = [Protocol("test", unseen=False), other_protocol("test", mask_history=False)]
    module = EvaluationModule(Harness(ranker, protocols, [1, 5], 6, facts), len(held_out))
    strategy = "ddp" if devices > 1 else "auto"
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy)
    loader = ExampleDataModule(Examples(held_out, candidates), batch_size=7)
    trainer.test(module, datamodule=loader, verbose=False)
    if kind == "broken":
        with pytest.raises(NotANumberError) as raised:
            module.collect()
        first = next(example for example, history in enumerate(held_out.histories) if history[0] == 3)
        return {"said": str(raised.value), "first": first}
    return {name: (found.metrics, found.ranked, found.scores) for name, found in module.collect().items()}


if __name__ == "__main__":
    everything = found_by(int(sys.argv[1]), int(sys.argv[3]), sys.argv[4])
    if not int(os.environ.get("LOCAL_RANK", "0")):
        torch.save(everything, Path(sys.argv[2]))
