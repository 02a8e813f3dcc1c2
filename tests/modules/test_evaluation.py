"""Evaluation on several processes: the metrics and rankings of one, to the last digit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from datamodules.examples import ExampleDataModule, Examples
from datamodules.splits import Sequences
from dig.baselines.item_knn import ItemKNN
from dig.config.schema import ItemKNNConfig
from dig.evaluation.catalogue_facts import CatalogueFacts
from dig.evaluation.harness import Harness, Protocol, other_protocol
from dig.evaluation.memorization import one_hop_candidates, successor_counts
from dig.modules.evaluation import EvaluationModule

EXAMPLES, ITEMS = 50, 23


def found_by(devices: int, examples: int = EXAMPLES) -> dict:
    """What an evaluation on so many processes finds, as rank 0 has it."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    rows = [random.integers(0, ITEMS, random.integers(4, 9)) for _ in range(examples)]
    data = Sequences.from_lists([f"u{user}" for user in range(examples)], rows)
    held_out = data.held_out("test")
    candidates = one_hop_candidates(successor_counts(data.train, ITEMS), held_out.histories)
    counts = np.bincount(data.train.flat(), minlength=ITEMS)
    facts = CatalogueFacts.of(counts, len(data), [[str(item % 3), str(item % 5)] for item in range(ITEMS)])
    ranker = ItemKNN.fit(data.train, ITEMS, ItemKNNConfig(neighbours=5, shrinkage=1.0))
    protocols = [Protocol("test", unseen=False), other_protocol("test", mask_history=False)]
    module = EvaluationModule(Harness(ranker, protocols, [1, 5], 6, facts), len(held_out))
    strategy = "ddp" if devices > 1 else "auto"
    trainer = tiny.quiet_trainer(devices=devices, strategy=strategy)
    loader = ExampleDataModule(Examples(held_out, candidates), batch_size=7)
    trainer.test(module, datamodule=loader, verbose=False)
    return {name: (found.metrics, found.ranked, found.scores) for name, found in module.collect().items()}


def in_a_process(devices: int, folder: Path, examples: int = EXAMPLES) -> dict:
    """The same in a process of its own, which starts the others."""
    file = folder / f"{devices}-{examples}.pt"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(folder) for folder in Path(__file__).parents[1:3])}
    command = [sys.executable, __file__, str(devices), str(file), str(examples)]
    subprocess.run(command, check=True, timeout=240, env=environment)
    return torch.load(file)


@pytest.mark.parametrize(("devices", "examples"), [(2, EXAMPLES), (3, EXAMPLES), (3, 2)])
def test_several_processes_find_what_one_finds(devices: int, examples: int, tmp_path: Path):
    one, several = found_by(1, examples), in_a_process(devices, tmp_path, examples)
    assert set(one) == set(several) == {"test", "test_masked"}
    for name, (metrics, ranked, scores) in one.items():
        assert several[name][0] == metrics
        assert torch.equal(several[name][1], ranked) and torch.equal(several[name][2], scores)
        assert ranked.shape == (examples, 6) and (ranked[:, 0] >= 0).all()


if __name__ == "__main__":
    everything = found_by(int(sys.argv[1]), int(sys.argv[3]))
    if not int(os.environ.get("LOCAL_RANK", "0")):
        torch.save(everything, Path(sys.argv[2]))
