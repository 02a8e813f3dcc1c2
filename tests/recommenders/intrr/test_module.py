"""IntRRModule: teacher forcing against a slow loop, alignment, learning, ranks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import tiny, two_ranks_intrr
from support.preloaded import Preloaded
from support.slow_intrr import DUPLICATES, FORMS, SUFFIXED, slow_log_probs, state_after, trie_of

from datamodules.item_sequences import ItemSequenceBatch, ItemSequences
from datamodules.prompts import ItemPrompts
from dig.config.schema import EvaluationConfig, PromptConfig
from dig.config.sections.backbone import AssignmentConfig
from dig.evaluation import evaluate
from dig.generation.intrr_paths import alignment_loss, intrr_losses
from dig.quantization import SemanticIds
from dig.recommenders.intrr import IntRRConfig
from dig.recommenders.intrr.module import IntRRModule
from dig.recommenders.intrr.ranker import IntRRRanker

IDS = SemanticIds.from_codes(
    [f"i{row}" for row in range(24)], torch.tensor([[row // 5, row % 5] for row in range(24)]), [5, 5]
)
SEQUENCES = tiny.cyclic_sequences(120, 24)
CONFIG = IntRRConfig(max_history=8, batch_size=16, learning_rate=1e-2)
EVALUATION = EvaluationConfig(ks=[1, 5], valid_beams=8)
HISTORIES = torch.tensor([[-1, 3, 1, 4], [-1, -1, 7, 2], [5, 5, 11, 23]])
TARGETS = torch.tensor([[-1, 1, 4, 9], [-1, -1, -1, 0], [5, 11, 23, 8]])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ids", [SUFFIXED, DUPLICATES], ids=["suffix", "duplicates"])
def test_the_loss_is_that_of_a_slow_loop(form: dict, ids: SemanticIds):
    """Every target behind its own history, level after level, each told the true codes before it."""
    model = tiny.tiny_intrr(ids, **form)
    losses, _ = intrr_losses(model, trie_of(ids), HISTORIES, TARGETS)
    expected = []
    for row, wanted in zip(HISTORIES.tolist(), TARGETS.tolist(), strict=True):
        for place, target in enumerate(wanted):
            if target < 0:
                continue
            history = [item for item in row[: place + 1] if item >= 0]
            if model.sizes.softmax == "trie":
                expected.append(-slow_log_probs(model, history, ids)[target].sum())
                continue
            guidance, before, total = state_after(model, history), None, torch.zeros(())
            for level, code in enumerate(ids.codes[target].tolist()):
                if code < 0:
                    continue
                state = guidance if before is None else model.assign.step(level, before, guidance)
                total = total + F.cross_entropy(model.assign.logits(level, state), torch.tensor(code))
                before = model.assign.conditioned(before, model.assign.codebooks[level][code])
            expected.append(total)
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_has_a_gradient_whatever_the_batch_holds(form: dict):
    """Or several ranks would wait for each other: no item here has a suffix, none has a choice at the last level."""
    model = tiny.tiny_intrr(SUFFIXED, **form).train()
    alone = (SUFFIXED.codes[:, -1] < 0).nonzero()[:2, 0]
    losses, alignment = intrr_losses(model, trie_of(SUFFIXED), alone[:1].unsqueeze(1), alone[1:].unsqueeze(1))
    (losses.mean() + 0.0 * alignment).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


def test_alignment_is_the_cross_entropy_of_the_input_side():
    model, items = tiny.tiny_intrr(SUFFIXED), torch.tensor([0, 5, 23])
    assigned = model.assigned(items)
    total = torch.zeros(())
    for row, item in enumerate(items.tolist()):
        for level, code in enumerate(SUFFIXED.codes[item].tolist()):
            if code >= 0:
                total = total - assigned.log_probs[level][row, code]
    torch.testing.assert_close(alignment_loss(assigned, SUFFIXED.codes[items]), total / 3)
    _, found = intrr_losses(model, trie_of(SUFFIXED), HISTORIES, TARGETS)
    there = HISTORIES[HISTORIES >= 0].unique()
    torch.testing.assert_close(found, alignment_loss(model.assigned(there), SUFFIXED.codes[there]))


def module(config: IntRRConfig = CONFIG, **form: Any) -> IntRRModule:
    shape = {"residual": True, "scale": 10.0, "uid_input": True, "uid_output": True, "softmax": "trie", "dropout": 0.1}
    model = tiny.tiny_intrr(IDS, noise=0.0, **{**shape, "hidden_size": 32, **form})
    return IntRRModule(model.train(), config, EVALUATION)


def data(batch_size: int = CONFIG.batch_size) -> ItemSequences:
    return ItemSequences(SEQUENCES, CONFIG.max_history, batch_size, None, 0)


def trained(found: IntRRModule, **settings: Any) -> Any:
    trainer = tiny.quiet_trainer(**settings)
    trainer.fit(found, datamodule=data())
    return trainer


PAPER = {"residual": False, "scale": None, "uid_input": False, "uid_output": False, "softmax": "level"}


@pytest.mark.parametrize("form", [{}, PAPER], ids=["ours", "paper"])
def test_learns_a_certain_next_item(form: dict):
    found = module(**form)
    epochs = 60 if form else 25
    trainer = trained(found, max_epochs=epochs, check_val_every_n_epoch=epochs)
    assert trainer.callback_metrics["valid/hr@1"] > 0.9
    assert found.validated_at == trainer.global_step
    assert found.model.remembered is None
    examples = SEQUENCES.held_out("valid")
    builder = ItemPrompts(24, PromptConfig(max_history=8))
    ranked = evaluate(IntRRRanker(found.model, builder, 8, device="cpu"), examples.histories, examples.targets, [1, 5])
    assert ranked.metrics["ndcg@5"] == pytest.approx(float(trainer.callback_metrics["valid/ndcg@5"]))


def test_alignment_leads_items_to_their_semantic_ids_and_none_leaves_them_free():
    shares = []
    for weight in (1.0, 0.0):
        config = replace(CONFIG, assignment=AssignmentConfig(alignment=weight))
        found = module(config)
        trained(found, max_epochs=20, limit_val_batches=0)
        codes = found.model.assigned(torch.arange(24)).codes
        shares.append(float((codes == IDS.codes).all(dim=1).float().mean()))
    assert shares[0] > 0.95 and shares[1] < 0.5


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for _ in range(2):
        found = module()
        torch.manual_seed(1)
        trained(found, max_steps=5)
        weights.append(found.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_loss_has_the_parts_that_are_logged():
    found, logged = module(replace(CONFIG, assignment=AssignmentConfig(alignment=0.25))), {}
    found.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    found._trainer = tiny.quiet_trainer()
    found.eval()
    batch: ItemSequenceBatch = data().training[[0, 1, 2]]
    loss = found.training_step(batch)
    torch.testing.assert_close(loss, logged["train/loss"] + 0.25 * logged["train/alignment"])


def test_two_ranks_train_and_validate_as_one(tmp_path: Path):
    command = [sys.executable, two_ranks_intrr.__file__, "2", str(tmp_path / "two.pt")]
    other = Preloaded(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    two_ranks_intrr.train(1, tmp_path / "one.pt")
    output, _ = other.communicate(timeout=240)
    assert other.returncode == 0, output
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert one["valid"] == two["valid"] and 0 < one["valid"]["valid/hr@10"] < 1
    start = tiny.tiny_intrr(SUFFIXED, **two_ranks_intrr.FORM).state_dict()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, atol=2e-6, rtol=1e-4, msg=name)
    moved = max(
        float((one["weights"][f"model.{name}"] - weight).abs().max())
        for name, weight in start.items()
        if weight.is_floating_point()
    )
    assert moved > 1e-2
