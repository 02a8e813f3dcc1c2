"""The contract of the group rollout loop with Lightning: a change of Lightning's loops has to fail here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import Dataset

from callbacks.resume import AtomicCheckpointIO, ResumeCheckpoint, StepSeed
from datamodules.loading import EpochBatchSampler, ResumableLoader
from dig.rollouts import Rollouts, group_advantages, policy_objective
from dig.rollouts.loop import GroupRolloutLoop, install_group_rollouts

ARMS, GROUP, PROMPTS, BATCHES = 5, 6, 4, 5


class Prompts(Dataset):
    def __getitem__(self, index: list[int]) -> torch.Tensor:
        return torch.tensor(index)


class Bandit(L.LightningModule):
    """A softmax policy over arms; the prompt is a number that says which arm is best."""

    def __init__(self, minibatches: int = 2, updates: int = 3, lr: float = 0.1, scheduled: bool = False) -> None:
        super().__init__()
        self.minibatches, self.updates_per_rollout, self.lr, self.scheduled = minibatches, updates, lr, scheduled
        self.logits = torch.nn.Parameter(torch.zeros(ARMS, ARMS))
        self.steps: list[tuple[int, list[int]]] = []  # (prompt batch, prompts of the minibatch)
        self.ratios: list[float] = []
        self.modes: list[tuple[bool, bool]] = []
        self.learning_rates: list[float] = []
        self.seen: list[tuple[int, float]] = []

    def policy(self, prompts: torch.Tensor) -> torch.Tensor:
        self.modes.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return (torch.eye(ARMS)[prompts % ARMS] @ self.logits).float().log_softmax(dim=1)

    def rollout(self, batch: torch.Tensor) -> Rollouts:
        log_probs = self.policy(batch)
        arms = log_probs.exp().multinomial(GROUP, replacement=True)
        advantages = group_advantages((arms == (batch % ARMS).unsqueeze(1)).float())
        chosen = log_probs.gather(1, arms).unsqueeze(-1)
        numbers = batch.unsqueeze(1)
        prompts = Rollouts.of_prompts(numbers, torch.ones_like(numbers), batch % ARMS, numbers, batch)
        return replace(prompts, items=arms, old_log_probs=chosen, advantages=advantages, reference_log_probs=chosen)

    def training_step(self, batch: Rollouts, batch_idx: int) -> torch.Tensor:
        self.steps.append((batch_idx, batch.input_ids[:, 0].tolist()))
        self.learning_rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        log_probs = self.policy(batch.input_ids[:, 0]).gather(1, batch.items).unsqueeze(-1)
        result = policy_objective(log_probs, batch.old_log_probs, batch.reference_log_probs, batch.advantages)
        self.ratios.append(result.ratio.item())
        self.log("train/ratio", result.ratio)
        return result.loss

    def validation_step(self, batch: torch.Tensor) -> None:
        self.seen.append((self.trainer.global_step, self.logits.sum(dim=0)[0].item()))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        if not self.scheduled:
            return optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda batch: 1 / (1 + batch))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Calls(L.Callback):
    """Counts the hooks that other callbacks live on."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        for hook in (
            "on_train_batch_start",
            "on_train_batch_end",
            "on_before_zero_grad",
            "on_before_backward",
            "on_after_backward",
            "on_before_optimizer_step",
        ):
            setattr(self, hook, self._counter(hook))

    def _counter(self, hook: str) -> Any:
        def counted(*_: Any, **__: Any) -> None:
            self.count[hook] = self.count.get(hook, 0) + 1

        return counted


def trainer_for(*callbacks: L.Callback, epochs: int = 1, **settings: Any) -> L.Trainer:
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        **settings,
    )
    install_group_rollouts(trainer)
    return trainer


def prompts(count: int = PROMPTS * BATCHES, batch_size: int = PROMPTS) -> ResumableLoader:
    return ResumableLoader(Prompts(), EpochBatchSampler(count, batch_size, seed=1))


def fit(module: Bandit, *callbacks: L.Callback, loader: ResumableLoader | None = None, **settings: Any) -> L.Trainer:
    torch.manual_seed(0)
    trainer = trainer_for(*callbacks, **settings)
    trainer.fit(module, loader or prompts())
    return trainer


def test_a_prompt_batch_takes_minibatches_times_updates_steps():
    module, calls = Bandit(minibatches=2, updates=3), Calls()
    trainer = fit(module, calls)
    assert isinstance(trainer.fit_loop.epoch_loop.automatic_optimization, GroupRolloutLoop)
    assert trainer.global_step == 2 * 3 * BATCHES == len(module.steps)
    assert calls.count == {
        "on_train_batch_start": BATCHES,
        "on_train_batch_end": BATCHES,
        "on_before_zero_grad": 30,
        "on_before_backward": 30,
        "on_after_backward": 30,
        "on_before_optimizer_step": 30,
    }
    for batch_idx, batch in enumerate(prompts()):
        rounds = [step for index, step in module.steps if index == batch_idx]
        assert rounds == [batch[:2].tolist(), batch[2:].tolist()] * 3


def test_the_ratio_is_one_at_the_first_step_of_a_batch_and_not_after():
    module = Bandit(minibatches=1, updates=3, lr=0.3)
    trainer = fit(module)
    assert module.ratios[0::3] == [1.0] * BATCHES
    assert all(ratio != 1.0 for ratio in module.ratios[1::3] + module.ratios[2::3])
    assert trainer.callback_metrics["train/ratio"].item() == pytest.approx(module.ratios[-1])


def test_rollouts_have_no_graph_and_updates_have_one():
    module = Bandit(minibatches=1, updates=2)
    fit(module)
    assert module.modes == [(False, False), (True, False), (True, False)] * BATCHES


def test_a_short_last_batch_is_cut_into_what_there_is():
    module = Bandit(minibatches=3, updates=1)
    trainer = fit(module, loader=prompts(count=9, batch_size=7))
    sizes = [(index, len(part)) for index, part in module.steps]
    assert sizes == [(0, 3), (0, 2), (0, 2), (1, 1), (1, 1)]
    assert trainer.global_step == 5


@pytest.mark.parametrize("max_steps", [1, 5, 6, 7, 20])
def test_max_steps_ends_inside_a_prompt_batch(max_steps: int):
    module = Bandit(minibatches=2, updates=3)
    trainer = fit(module, max_steps=max_steps, epochs=9)
    assert trainer.global_step == len(module.steps) == max_steps


def test_gradients_are_clipped_at_every_step():
    class Norms(L.Callback):
        def __init__(self) -> None:
            self.raw: list[float] = []

        def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: Any) -> None:
            self.raw.append(module.logits.grad.norm().item())

    class Plain(Bandit):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.moves: list[float] = []

        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            before = self.logits.detach().clone()
            super().optimizer_step(*args, **kwargs)
            self.moves.append((self.logits.detach() - before).norm().item())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    module, norms = Plain(minibatches=2, updates=2), Norms()
    fit(module, norms, gradient_clip_val=0.01)
    assert len(module.moves) == len(norms.raw) == 4 * BATCHES
    assert max(norms.raw) > 0.05
    # a step of plain gradient descent at rate 1 is as long as the gradient after clipping
    assert module.moves == pytest.approx([min(norm, 0.01) for norm in norms.raw], rel=1e-3, abs=1e-7)


def test_bf16_mixed_reaches_rollouts_and_updates():
    module = Bandit(minibatches=1, updates=1)
    trainer = fit(module, precision="bf16-mixed")
    assert module.modes == [(False, True), (True, True)] * BATCHES
    assert trainer.global_step == BATCHES and module.logits.dtype == torch.float32


def test_accumulation_sums_the_gradients_of_prompt_batches():
    module, calls = Bandit(minibatches=1, updates=1), Calls()
    trainer = fit(module, calls, accumulate_grad_batches=2, loader=prompts(count=16))
    assert trainer.global_step == 2 == calls.count["on_before_optimizer_step"] == calls.count["on_before_zero_grad"]
    assert calls.count["on_after_backward"] == 4


def test_the_learning_rate_moves_once_a_prompt_batch():
    module = Bandit(minibatches=2, updates=1, lr=0.6, scheduled=True)
    fit(module)
    assert module.learning_rates == pytest.approx([0.6 / (1 + index) for index in range(BATCHES) for _ in range(2)])


def test_the_policy_learns_the_best_arm_of_every_prompt():
    module = Bandit(minibatches=2, updates=2, lr=0.1)
    fit(module, epochs=12)
    assert (module.logits.softmax(dim=1).diagonal() > 0.9).all()


class Kill(L.Callback):
    def __init__(self, at: int) -> None:
        self.left = at

    def on_train_batch_start(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")


def resumable(file: Path, *callbacks: L.Callback) -> tuple[Bandit, L.Trainer]:
    module = Bandit(minibatches=2, updates=2, scheduled=True)
    torch.manual_seed(sum(file.name.encode()))  # nothing may depend on what the generator was before
    trainer = trainer_for(
        *callbacks,
        StepSeed(3),
        ResumeCheckpoint(file, 3, {}),
        epochs=3,
        max_steps=50,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        gradient_clip_val=0.5,
    )
    valid = ResumableLoader(Prompts(), EpochBatchSampler(2, 2, seed=0, shuffle=False))
    checkpoint = file if file.is_file() else None
    trainer.fit(module, prompts(), valid, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return module, trainer


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    whole, trainer = resumable(tmp_path / "whole.ckpt")
    assert trainer.global_step == 50 and len(whole.seen) >= 4
    for kill_at in range(1, 13):
        file = tmp_path / f"{kill_at}.ckpt"
        with pytest.raises(RuntimeError, match="killed"):
            resumable(file, Kill(kill_at))
        saved = torch.load(file, weights_only=True)["global_step"] if file.is_file() else 0
        resumed, again = resumable(file)
        assert again.global_step == 50
        assert torch.equal(resumed.logits, whole.logits), f"killed at batch {kill_at}, saved at step {saved}"
        assert resumed.steps == whole.steps[saved:]
        assert resumed.seen == [pair for pair in whole.seen if pair[0] >= saved]
