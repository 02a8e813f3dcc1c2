"""A pretrained language model beside the libraries that one would take: fine-tuning, GRPO, beam search, mining.

SmolLM2-135M (``pip install 'dig[offline-llm]'``; ``--model NAME`` takes another), adapters as configured by default,
3 × 256 new tokens, prompts of 160 tokens with the model's own chat template, float32. Each side of a comparison is a
process of its own, so that memory is told apart; the sides alternate, and a ratio is one of medians.

- LoRA fine-tuning beside transformers' ``Trainer`` around the same peft model: the same batches, the same steps.
- A step of GRPO, 8 prompts × 16 rollouts, beside TRL's ``GRPOTrainer``, which gets as large a share of the rollouts at
  a time as memory holds, and no gradient checkpointing.
- Twenty beams over the catalogue beside ``generate`` with ``prefix_allowed_tokens_fn``.
- Mined answers held to their schema beside free ones.

TRL is an extra: ``pip install -e '.[bench]'``. Parts can be named: ``python benchmarks/llm.py sft beams``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torch import Tensor

from datamodules.histories import Histories, Windows
from datamodules.loading import EpochBatchSampler, ResumableLoader
from datamodules.mixture import TaskMixture, TaskPart, TokenArrays, write_token_arrays
from datamodules.prompts import SidPrompts
from datamodules.rollout_prompts import PromptDataModule, TrainingPrompts
from datamodules.splits import Sequences
from datamodules.tasks import ItemTexts, TaskSource
from dig.config.schema import BackboneConfig, EvaluationConfig, GRPOConfig, PromptConfig, SFTConfig
from dig.engine.console import console
from dig.engine.training import quiet
from dig.generation import CatalogueTrie, beam_search
from dig.generation.backbone import Backbone, build_backbone
from dig.modules.grpo import GRPOModule
from dig.modules.sft import SFTModule
from dig.rollouts import RewardContext
from dig.rollouts.loop import install_group_rollouts

ITEMS, CODES, LEVELS = 12_000, 256, 3
PROMPT = 160
BATCH, WARM, STEPS, ROUNDS = 16, 1, 2, 2
PROMPTS, GROUP, KL_WEIGHT = 8, 16, 1e-3
OUR_STEPS = 4
BEAMS, USERS, OUR_SEARCHES, THEIR_SEARCHES = 20, 8, 5, 2
MINED, MINED_TOKENS, MINED_ROUNDS = 8, 160, 2
TITLES = [
    "Fragrance-free cream for dry and sensitive hands, 75 ml",
    "Foldable travel hair dryer with two voltages",
    "Natural bristle brush of beech wood",
    "Waterproof mascara, black, with argan oil",
]
BYTES_A_TOKEN = 1.6e6
"""What peft keeps of a token for the backward pass of this model, about: decides what TRL gets at a time."""
PARTS = ("sft", "grpo", "beams", "mining")


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    arguments = _arguments()
    console.quiet = True
    if arguments.side:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            print(json.dumps(SIDES[arguments.side](arguments.model, Path(folder))))
        return
    figures: dict[str, float | None] = {}
    for part in arguments.parts or PARTS:
        figures |= {"sft": _sft, "grpo": _grpo, "beams": _beams, "mining": _mining}[part](arguments.model)
    print(json.dumps(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    return arguments


def _measured(side: str, model: str) -> dict[str, Any]:
    """A side, in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--model", model]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures


def _alternating(ours: str, theirs: str, model: str, rounds: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides by turns; times of all rounds are joined, the rest is of the last."""
    results: list[dict[str, Any]] = [{}, {}]
    for _ in range(rounds):
        for place, side in enumerate((ours, theirs)):
            new = _measured(side, model)
            results[place] = new | {"seconds": results[place].get("seconds", []) + new["seconds"]}
    return results[0], results[1]


# --- data ------------------------------------------------------------------------------------------------------------


def _backbone(model: str, adapted: bool = True) -> Backbone:
    torch.manual_seed(0)
    config = BackboneConfig(pretrained=model)
    config.lora.enabled = adapted
    return build_backbone(config, [CODES] * LEVELS, PROMPT + LEVELS)


def _codes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(CODES, (2 * ITEMS, LEVELS), generator=generator).unique(dim=0)
    return codes[torch.randperm(len(codes), generator=generator)[:ITEMS]]


def _builder(backbone: Backbone) -> SidPrompts:
    """Prompts that come nearest to 160 tokens from below."""
    tokens = backbone.vocabulary.encode(_codes())
    short = SidPrompts(tokens, backbone.tokenizer, PromptConfig(max_history=1), backbone.from_scratch)
    frame = len(short.prefix) + len(short.suffix)
    history = (PROMPT - frame) // LEVELS
    return SidPrompts(tokens, backbone.tokenizer, PromptConfig(max_history=history), backbone.from_scratch)


def _histories(builder: SidPrompts, users: int, more: int = 0) -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    return [draws.integers(0, ITEMS, builder.max_history + more) for _ in range(users)]


# --- supervised fine-tuning ------------------------------------------------------------------------------------------


def _sft(model: str) -> dict[str, float | None]:
    ours, theirs = _alternating("sft-dig", "sft-transformers", model, ROUNDS)
    gap = max(abs(one - other) / other for one, other in zip(ours["losses"], theirs["losses"], strict=True))
    _table(
        f"LoRA, {BATCH} prompts of {ours['length']} tokens a step",
        {"useful tokens/s": "rate", "peak, GB": "peak", "losses": "losses"},
        {"dig": _with_rate(ours), "transformers' Trainer + peft": _with_rate(theirs)},
    )
    return {
        "lora_ratio": round(_middle(theirs) / _middle(ours), 2),
        "lora_memory_fraction": round(ours["peak"] / theirs["peak"], 3),
        "lora_loss_gap": round(gap, 4),
    }


def _with_rate(side: dict[str, Any]) -> dict[str, Any]:
    losses = ", ".join(f"{loss:.3f}" for loss in side["losses"])
    return side | {"rate": f"{side['tokens'] / _middle(side):,.0f}", "losses": losses}


def _samples(backbone: Backbone, builder: SidPrompts, folder: Path) -> TaskMixture:
    users = BATCH * (WARM + STEPS)
    windows = Windows(Histories.from_lists(_histories(builder, users, more=1)), np.ones(users, np.int64))
    write_token_arrays(TaskSource("next_item", builder, windows, ItemTexts(), 0), folder / "arrays")
    return TaskMixture([TaskPart(TokenArrays(folder / "arrays"))], pack=True)


class _Data(lightning.LightningDataModule):
    def __init__(self, samples: TaskMixture) -> None:
        super().__init__()
        self.samples = samples

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(self.samples, EpochBatchSampler(len(self.samples), BATCH, 0))


class _Clock(Callback):
    """Seconds and losses of steps."""

    def __init__(self) -> None:
        self.seconds, self.losses = list[float](), list[float]()

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


def _sft_dig(model: str, folder: Path) -> dict[str, Any]:
    """SFTModule under Lightning, as the stage runs it."""
    backbone = _backbone(model)
    builder = _builder(backbone)
    samples, clock = _samples(backbone, builder, folder), _Clock()
    module = SFTModule(backbone, builder.item_tokens, SFTConfig(learning_rate=3e-4), EvaluationConfig())
    trainer = _trainer(clock, WARM + STEPS)
    trainer.fit(module, datamodule=_Data(samples))
    length = int(samples.lengths.max())
    tokens = int(samples.lengths.sum()) // (WARM + STEPS)
    return {
        "seconds": clock.seconds[WARM:],
        "losses": clock.losses,
        "tokens": tokens,
        "length": length - LEVELS,
        "peak": _peak(),
    }


def _sft_transformers(model: str, folder: Path) -> dict[str, Any]:
    """transformers' Trainer on the same samples in the same order, with the same optimiser and schedule."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    backbone = _backbone(model)
    samples = _samples(backbone, _builder(backbone), folder)
    order = [number for batch in EpochBatchSampler(len(samples), BATCH, 0) for number in batch]
    batches = [samples[[number]] for number in order]
    rows = [{"input_ids": batch.input_ids[0], "labels": batch.labels[0]} for batch in batches]
    seconds, losses, config = list[float](), list[float](), SFTConfig(learning_rate=3e-4)

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.started)

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    arguments = TrainingArguments(
        str(folder / "hf"),
        per_device_train_batch_size=BATCH,
        max_steps=WARM + STEPS,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        adam_beta2=0.98,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
    )
    Trainer(backbone.model, arguments, train_dataset=rows, data_collator=_pad, callbacks=[Clock()]).train()  # type: ignore[arg-type]
    tokens = sum(len(row["input_ids"]) for row in rows) // (WARM + STEPS)
    return {"seconds": seconds[WARM:], "losses": losses, "tokens": tokens, "peak": _peak()}


def _pad(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids, labels = ([row[name] for row in rows] for name in ("input_ids", "labels"))
    mask = pad([torch.ones_like(row) for row in ids], batch_first=True)
    labels = pad(labels, batch_first=True, padding_value=-100)
    return {"input_ids": pad(ids, batch_first=True), "attention_mask": mask, "labels": labels}


# --- GRPO ------------------------------------------------------------------------------------------------------------


def _grpo(model: str) -> dict[str, float | None]:
    ours, theirs = _alternating("grpo-dig", "grpo-trl", model)
    _table(
        f"a step of GRPO, {PROMPTS} prompts × {GROUP} rollouts",
        {"seconds": "middle", "peak, GB": "peak", "rollouts at a time": "rollouts"},
        {name: side | {"middle": f"{_middle(side):.1f}"} for name, side in (("dig", ours), ("TRL", theirs))},
    )
    return {
        "grpo_trl_ratio": round(_middle(theirs) / _middle(ours), 2),
        "grpo_memory_ratio": round(theirs["peak"] / ours["peak"], 2),
    }


def _grpo_dig(model: str, folder: Path) -> dict[str, Any]:
    """GRPOModule under Lightning, as the stage runs it."""
    backbone, codes, clock = _backbone(model), _codes(), _Clock()
    builder = _builder(backbone)
    rows = _histories(builder, PROMPTS * OUR_STEPS, more=3)
    sequences = Sequences.from_lists([str(user) for user in range(len(rows))], rows)
    config = GRPOConfig(group_size=GROUP, prompts_per_step=PROMPTS, kl_weight=KL_WEIGHT, learning_rate=1e-6)
    prompts = TrainingPrompts(sequences, builder, per_user=1)
    data = PromptDataModule(prompts, sequences, builder, PROMPTS, 8, 8, 0)
    context = RewardContext(codes, torch.rand(ITEMS))
    module = GRPOModule(backbone, builder.item_tokens, context, config, EvaluationConfig(ks=[5, 10]))
    trainer = _trainer(clock, OUR_STEPS)
    install_group_rollouts(trainer)
    trainer.fit(module, datamodule=data)
    return {"seconds": clock.seconds[1:], "peak": _peak(), "rollouts": PROMPTS * GROUP}


def _grpo_trl(model: str, folder: Path) -> dict[str, Any]:
    """One step of TRL; it samples from the whole vocabulary, as it cannot follow a trie."""
    try:
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import GRPOConfig as TheirConfig
        from trl import GRPOTrainer
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install -e '.[bench]'") from None
    backbone = _backbone(model)
    builder, tokenizer = _builder(backbone), backbone.tokenizer
    ids = builder.prompts(_histories(builder, PROMPTS)).input_ids
    prompts = tokenizer.batch_decode(ids)
    lengths = [len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts]
    assert lengths == [ids.shape[1]] * PROMPTS, "TRL would read other prompts"
    at_once = _rollouts_at_once(ids.shape[1] + LEVELS)
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.started)

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(len(completion) % 7) for completion in completions]

    config = TheirConfig(
        output_dir=str(folder),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=PROMPTS * GROUP // at_once,
        num_generations=GROUP,
        beta=KL_WEIGHT,
        max_completion_length=LEVELS,
        max_steps=1,
        learning_rate=1e-6,
        loss_type="grpo",
        importance_sampling_level="sequence",
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        generation_kwargs={"min_new_tokens": LEVELS},
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        max_grad_norm=1.0,
        disable_dropout=True,
        dataloader_pin_memory=False,
    )
    backbone.model.get_output_embeddings().bias = None  # which TRL asks for, and peft's wrapper of trained rows lacks
    data = Dataset.from_dict({"prompt": prompts})
    trainer = GRPOTrainer(backbone.model, reward, config, data, processing_class=tokenizer, callbacks=[Clock()])
    backbone.model(input_ids=ids).logits.sum().backward()  # warms threads and allocator
    trainer.train()
    return {"seconds": seconds, "peak": _peak(), "rollouts": at_once}


def _rollouts_at_once(tokens: int) -> int:
    """The largest share of a step's rollouts, by halves, that two thirds of the free memory hold."""
    free = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    at_once = PROMPTS * GROUP
    while at_once > GROUP and at_once * tokens * BYTES_A_TOKEN > free * 2 / 3:
        at_once //= 2
    return at_once


# --- beam search -----------------------------------------------------------------------------------------------------


def _beams(model: str) -> dict[str, float | None]:
    ours, theirs = _alternating("beams-dig", "beams-transformers", model)
    same = np.mean(
        [len(set(one) & set(other)) / BEAMS for one, other in zip(ours["items"], theirs["items"], strict=True)]
    )
    _table(
        f"{BEAMS} beams for {USERS} prompts",
        {"users/s": "rate", "peak, GB": "peak"},
        {
            name: side | {"rate": f"{USERS / _middle(side):.2f}"}
            for name, side in (("dig", ours), ("transformers generate", theirs))
        },
    )
    return {
        "generate_ratio": round(_middle(theirs) / _middle(ours), 2),
        "generate_same_items": round(float(same), 4),
    }


def _searched(model: str) -> tuple[Any, Tensor, Tensor, Tensor]:
    """A model without adapters, a batch of prompts, and the catalogue's tokens."""
    backbone = _backbone(model, adapted=False)
    builder = _builder(backbone)
    prompts = builder.prompts(_histories(builder, USERS))
    return backbone.model.eval(), prompts.input_ids, prompts.attention_mask, builder.item_tokens


def _beams_dig(model: str, folder: Path) -> dict[str, Any]:
    policy, prompts, mask, tokens = _searched(model)
    trie = CatalogueTrie(tokens)
    search = lambda: beam_search(policy, prompts, mask, trie, BEAMS, normalise="vocabulary")  # noqa: E731
    seconds, result = _timed(search, OUR_SEARCHES)
    return {"seconds": seconds, "items": result.items.tolist(), "peak": _peak()}


def _beams_transformers(model: str, folder: Path) -> dict[str, Any]:
    policy, prompts, mask, tokens = _searched(model)
    width, trie = prompts.shape[1], CatalogueTrie(tokens)
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in tokens.tolist():
        for level in range(LEVELS):
            children[tuple(row[:level])].add(row[level])
    allowed = {prefix: sorted(following) for prefix, following in children.items()}
    with torch.no_grad():
        seconds, result = _timed(
            lambda: policy.generate(
                prompts,
                attention_mask=mask,
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
                max_new_tokens=LEVELS,
                min_new_tokens=LEVELS,
                do_sample=False,
                prefix_allowed_tokens_fn=lambda _, row: allowed[tuple(row[width:].tolist())],
            ),
            THEIR_SEARCHES,
            warm=1,
        )
    items = trie.find(result[:, width : width + LEVELS]).view(USERS, BEAMS)
    return {"seconds": seconds, "items": items.tolist(), "peak": _peak()}


def _timed(work: Callable[[], Any], repeats: int, warm: int = 1) -> tuple[list[float], Any]:
    """Seconds of each repeat after the first ones, and the last result."""
    seconds, result = [], None
    for _ in range(warm + repeats):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return seconds[warm:], result


# --- mining ----------------------------------------------------------------------------------------------------------


def _mining(model: str) -> dict[str, float | None]:
    """Both ways of one process, by turns: what is held to a schema and what is free."""
    rates = _measured("mining", model)
    held, free = (float(np.median(rates[name])) for name in ("held", "free"))
    rows = {
        "held to its schema": {"rate": f"{held:.1f}", "usable": f"{rates['held_usable']:.0%}"},
        "free": {"rate": f"{free:.1f}", "usable": f"{rates['free_usable']:.0%}"},
    }
    _table(f"answers of {MINED} items at a time", {"tokens/s": "rate", "usable": "usable"}, rows)
    return {
        "schema_fraction": round(held / free, 3),
        "schema_usable": rates["held_usable"],
        "free_usable": rates["free_usable"],
    }


def _mined(model: str, folder: Path) -> dict[str, Any]:
    """Tokens a second of whole answers, prompts included, as a mining run asks for them."""
    from dig.config.schema import ModelConfig
    from dig.interests.asking.question import Evidence, load_prompt, prompted_model, questions_of
    from dig.interests.asking.schema import answer_schema
    from dig.interests.models.local import TransformersModel

    config = ModelConfig(kind="transformers", model=model, max_output=MINED_TOKENS, batch_size=MINED)
    asked = prompted_model("local", config, load_prompt("interests-small-v1", "mining.prompt"), "interests", 3)
    items = [
        Evidence(str(row), json.dumps({"title": text})) for row, text in enumerate(TITLES * (MINED // len(TITLES)))
    ]
    questions = list(questions_of(asked, ((item, "") for item in items)))
    conversations = [question.messages(asked) for question in questions]
    schemas = [answer_schema(asked, question.evidence) for question in questions]
    local = {
        "held": TransformersModel(replace(config, format="json_schema")),
        "free": TransformersModel(replace(config, format="none")),
    }
    rates: dict[str, Any] = {"held": [], "free": []}
    for turn in range(1 + MINED_ROUNDS):
        for name, miner in local.items():
            started = time.perf_counter()
            answers = miner.complete(conversations, schemas)
            rate = sum(answer.completion_tokens for answer in answers) / (time.perf_counter() - started)
            rates[name] += [rate] if turn else []
            pairs = zip(questions, answers, strict=True)
            rates[f"{name}_usable"] = sum(_usable(asked, *pair) for pair in pairs) / len(answers)
    return rates


def _usable(asked: Any, question: Any, answer: Any) -> bool:
    from dig.interests.asking.answers import AnswerError

    try:
        question.read(asked, answer)
    except AnswerError:
        return False
    return True


# --- small helpers ---------------------------------------------------------------------------------------------------


def _trainer(clock: Callback, steps: int) -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
    )


def _middle(side: dict[str, Any]) -> float:
    return float(np.median(side["seconds"]))


def _peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def _table(title: str, columns: dict[str, str], rows: dict[str, dict[str, Any]]) -> None:
    table = Table(title=title)
    table.add_column("how")
    for heading in columns:
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(str(row[key]) for key in columns.values()))
    Console().print(table)


SIDES: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "sft-dig": _sft_dig,
    "sft-transformers": _sft_transformers,
    "grpo-dig": _grpo_dig,
    "grpo-trl": _grpo_trl,
    "beams-dig": _beams_dig,
    "beams-transformers": _beams_transformers,
    "mining": _mined,
}


if __name__ == "__main__":
    main()
