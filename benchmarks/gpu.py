"""What only a GPU can show, in one run of at most eight minutes on one device; where there is none it says so.

- Numerics in float32 and bfloat16: path models beside the model's own logits, beam search beside every item scored by
  the model itself, the loss of supervised fine-tuning and its gradients.
- One rank of NCCL, and of FSDP2; a compiled body.
- A decoder of 1.7 B parameters (the shape of Qwen3-1.7B, random weights, bfloat16, adapters): a step of supervised
  fine-tuning, the rate of GRPO steps over Semantic IDs, and 256 beams over three codes behind 1,000 tokens.

``--tiny`` runs every part with small sizes on whatever device there is: the rehearsal on a CPU. A part that fails is
named in the last line and makes the exit status 1; the others still run.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoConfig, AutoModelForCausalLM

from datamodules.histories import Ragged
from datamodules.packing import Samples, TrainingTokens, collate
from dig.config.schema import LoraConfig
from dig.generation import CatalogueTrie, beam_search
from dig.generation.causal_paths import CausalPathModel, next_token_loss
from dig.generation.decoder_paths import DecoderPathModel
from dig.generation.factory import as_path_model, causal_paths
from dig.generation.lora import add_lora
from dig.generation.sampling import sample_groups
from dig.generation.search import score
from dig.modules.sharding import ShardedModel
from dig.rollouts import group_advantages, policy_objective

LIMIT = 8 * 60
"""Seconds after which no further part begins."""
LEVELS = 3
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15}
"""Of log-probabilities, beside the model's own in the same precision."""
GOALS_MS = {1: (33.0, 17.6), 8: (199.0, 93.0)}
"""By batch: SGLang's published latency on an H100, and NVIDIA's."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        shape: of the large decoder, a Qwen3.
        words: its words, behind which the codes stand.
        codes: per level.
        items: in the catalogue.
        context: tokens before the beams.
        beams: how many.
        batch: samples of a step of fine-tuning.
        prompt: their tokens.
        prompts: of a step of GRPO.
        group: rollouts of each.
        repeats: measured runs.
    """

    shape: dict[str, int]
    words: int
    codes: int
    items: int
    context: int
    beams: int
    batch: int = 32
    prompt: int = 160
    prompts: int = 8
    group: int = 16
    repeats: int = 10


LARGE = Sizes(
    {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    words=151_936,
    codes=8192,
    items=1_000_000,
    context=1000,
    beams=256,
)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
"""A shape in which every item can be scored by the model itself."""
TINY = Sizes(
    {**SMALL, "hidden_size": 512},  # as wide as what dig computes itself
    words=100,
    codes=8,
    items=60,
    context=20,
    beams=6,
    batch=4,
    prompt=12,
    prompts=2,
    group=3,
    repeats=2,
)


def main() -> int:
    """Runs the parts and prints, as the last line, JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", "--dry-run", action="store_true", help="small sizes, on a CPU if need be")
    tiny = parser.parse_args().tiny
    if not torch.cuda.is_available() and not tiny:
        reason = "there is no GPU that torch can use; --tiny rehearses every part on the CPU"
        print(f"skipped: {reason}")
        print(json.dumps({"skipped": reason}))
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    figures: dict[str, Any] = {"device": name, "torch": torch.__version__, "tiny": tiny}
    failed, started = [], time.perf_counter()
    for part in (_numerics, _distributed, _compiled, _decoder):
        if time.perf_counter() - started > LIMIT:
            failed.append(f"{part.__name__.strip('_')}: no time left")
            continue
        try:
            figures |= part(TINY if tiny else LARGE, device)
        except Exception as error:  # a device is lent for minutes: the other parts are still worth having
            traceback.print_exc()
            failed.append(f"{part.__name__.strip('_')}: {type(error).__name__}: {error}"[:300])
        print(f"{part.__name__.strip('_')}: {time.perf_counter() - started:.0f} s", flush=True)
    figures |= {"failed": failed, "seconds": round(time.perf_counter() - started, 1)}
    print(json.dumps(figures))
    return 1 if failed else 0


# --- numerics --------------------------------------------------------------------------------------------------------


def _numerics(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """The largest differences of log-probabilities; raises where one is too large."""
    figures = {}
    for dtype in (torch.float32, torch.bfloat16):
        for family in ("llama", "qwen3"):
            model = _small(family, dtype, device)
            for kind in (CausalPathModel, DecoderPathModel):
                off = _differences(model, kind(model), device)
                name = f"{str(dtype).removeprefix('torch.')}_{family}_{kind.__name__}"
                figures |= {f"{name}_{what}": round(value, 6) for what, value in off.items()}
                worst = max(off.values())
                assert worst <= TOLERANCE[dtype], f"{name} is off by {worst:.1e}: {off}"
    return figures


def _small(family: str, dtype: torch.dtype, device: torch.device) -> Any:
    """A small decoder in which scores lie far apart."""
    config = AutoConfig.for_model(family, vocab_size=TINY.words + LEVELS * TINY.codes, **SMALL)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval().to(device, dtype)


@torch.no_grad()
def _differences(model: Any, paths: CausalPathModel, device: torch.device) -> dict[str, float]:
    tokens = _catalogue(TINY)
    trie = CatalogueTrie(tokens).to(device)
    prompts = _prompts(3, TINY.context, TINY, device, shared=9)
    mask = torch.ones_like(prompts)
    own = torch.stack([_own_scores(model, prompt, tokens.to(device)) for prompt in prompts])  # (batch, items)
    result = beam_search(paths, prompts, mask, trie, len(tokens), normalise="vocabulary")
    of_beams = own.gather(1, result.items)
    batch = _training_tokens(_prompts(4, TINY.prompt, TINY, device, shared=9), TINY, device)
    with torch.enable_grad():
        weight = model.base_model.layers[0].mlp.down_proj.weight
        loss = next_token_loss(paths, batch)
        (gradient,) = torch.autograd.grad(loss, [weight])
        logits = model(input_ids=batch.input_ids).logits[:, -LEVELS - 1 : -1].float()
        plain = F.cross_entropy(logits.flatten(0, 1), batch.input_ids[:, -LEVELS:].flatten())
        (expected,) = torch.autograd.grad(plain, [weight])
    return {
        "beams": float((of_beams - result.log_probs).abs().max()),
        "best": float((own.sort(dim=1, descending=True).values[:, :5] - result.log_probs[:, :5]).abs().max()),
        "loss": float((loss - plain).detach().abs()),
        "gradient": float(((gradient - expected).abs().max() / expected.abs().max()).detach()) / 10.0,
    }


def _own_scores(model: Any, prompt: Tensor, tokens: Tensor) -> Tensor:
    """(items,) log-probability of every item behind a prompt, by the model's own forward pass over whole rows."""
    rows = torch.cat([prompt.expand(len(tokens), -1), tokens], dim=1)
    log_probs = model(input_ids=rows).logits[:, -LEVELS - 1 : -1].float().log_softmax(dim=-1)
    return log_probs.gather(2, tokens.unsqueeze(2)).squeeze(2).sum(dim=1)


# --- one rank --------------------------------------------------------------------------------------------------------


def _distributed(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """A sum over one rank, and the loss of a model whose weights are shared out over it."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = str(_free_port())
    dist.init_process_group(backend, rank=0, world_size=1)
    try:
        ones = torch.ones(4, device=device)
        dist.all_reduce(ones)
        assert ones.tolist() == [1.0] * 4
        model = _small("llama", torch.float32, device).train()
        batch = _training_tokens(_prompts(4, TINY.prompt, TINY, device, shared=9), TINY, device)
        plain = float(next_token_loss(CausalPathModel(model), batch).detach())
        sharded = ShardedModel(model, init_device_mesh(device.type, (1,)), keep_plain=False)
        loss = sharded.run(lambda: next_token_loss(causal_paths(model), batch))
        loss.backward()
        off = abs(float(loss.detach()) - plain)
        assert off < 1e-4, f"the sharded loss is off by {off:.1e}"
        assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    finally:
        dist.destroy_process_group()
    return {f"{backend}_rank": True, "fsdp2_loss_off": round(off, 7)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- compile ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _compiled(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """The same items from a compiled body."""
    model = _small("llama", torch.float32, device)
    trie = CatalogueTrie(_catalogue(TINY)).to(device)
    prompts = _prompts(2, TINY.context, TINY, device)
    mask = torch.ones_like(prompts)
    backend = "inductor" if device.type == "cuda" else "aot_eager"  # a CPU may lack a compiler
    plain = beam_search(CausalPathModel(model), prompts, mask, trie, 5)
    compiled = beam_search(CausalPathModel(model, compiled=backend), prompts, mask, trie, 5)
    off = float((plain.log_probs - compiled.log_probs).abs().max())
    assert off < TOLERANCE[torch.float32], f"a compiled body is off by {off:.1e}"
    return {f"compiled_{backend}_off": round(off, 6)}


# --- the large decoder -----------------------------------------------------------------------------------------------


def _decoder(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Fine-tuning, GRPO and beams of one model."""
    vocabulary = sizes.words + LEVELS * sizes.codes
    config = AutoConfig.for_model("qwen3", vocab_size=vocabulary, tie_word_embeddings=True, **sizes.shape)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    figures: dict[str, Any] = {"parameters_m": round(model.num_parameters() / 1e6)}
    trie = CatalogueTrie(_catalogue(sizes)).to(device)
    figures |= _beams(model.eval(), trie, sizes, device)
    adapted = add_lora(model, LoraConfig(dropout=0.0), list(range(sizes.words, vocabulary))).train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    figures |= _fine_tuning(adapted, optimizer, sizes, device)
    return figures | _grpo(adapted, optimizer, trie, sizes, device)


def _beams(model: Any, trie: CatalogueTrie, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    paths = as_path_model(model)  # once, as a server does
    figures: dict[str, Any] = {"path_model": type(paths).__name__}
    for batch, (goal, aim) in GOALS_MS.items():
        prompts = _prompts(batch, sizes.context, sizes, device)
        mask = torch.ones_like(prompts)
        seconds = _timed(lambda: beam_search(paths, prompts, mask, trie, sizes.beams), sizes.repeats, device)  # noqa: B023
        figures |= {f"beams_batch_{batch}_ms": round(seconds * 1e3, 1), f"beams_batch_{batch}_goal_ms": [goal, aim]}
        with torch.no_grad():
            encode = _timed(lambda: paths.encode(prompts, mask), sizes.repeats, device)  # noqa: B023
        figures[f"encode_batch_{batch}_ms"] = round(encode * 1e3, 1)
    return figures


def _fine_tuning(model: Any, optimizer: Any, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    batch = _training_tokens(_prompts(sizes.batch, sizes.prompt, sizes, device, shared=40), sizes, device)

    def step() -> None:
        next_token_loss(causal_paths(model), batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    _reset(device)
    seconds = _timed(step, sizes.repeats, device)
    tokens = int((batch.attention_mask > 0).sum())
    return {
        "sft_step_ms": round(seconds * 1e3, 1),
        "sft_tokens_per_second": round(tokens / seconds),
        "sft_peak_gb": _peak(device),
    }


def _grpo(model: Any, optimizer: Any, trie: CatalogueTrie, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    prompts = _prompts(sizes.prompts, sizes.prompt, sizes, device, shared=40)
    mask = torch.ones_like(prompts)
    seeds = torch.arange(sizes.prompts, device=device)

    def step() -> None:
        with torch.no_grad():
            model.eval()
            groups = sample_groups(model, prompts, mask, trie, sizes.group, seeds=seeds)
            model.train()
            with model.disable_adapter():
                reference = score(model, prompts, mask, trie, groups.items)
            rewards = (groups.items % 7).float()
        log_probs = score(model, prompts, mask, trie, groups.items)
        policy_objective(log_probs, groups.log_probs, reference, group_advantages(rewards)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    _reset(device)
    seconds = _timed(step, sizes.repeats, device)
    return {
        "grpo_step_ms": round(seconds * 1e3, 1),
        "grpo_steps_per_second": round(1.0 / seconds, 2),
        "grpo_rollouts_per_second": round(sizes.prompts * sizes.group / seconds),
        "grpo_peak_gb": _peak(device),
    }


# --- small helpers ---------------------------------------------------------------------------------------------------


def _catalogue(sizes: Sizes) -> Tensor:
    """(items, levels) vocabulary ids of random distinct Semantic IDs."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(sizes.codes**LEVELS, (2 * sizes.items,), generator=generator).unique()
    numbers = numbers[torch.randperm(len(numbers), generator=generator)[: sizes.items]]
    codes = torch.stack([numbers // sizes.codes**level % sizes.codes for level in range(LEVELS)], dim=1)
    return sizes.words + codes + sizes.codes * torch.arange(LEVELS)


def _prompts(rows: int, length: int, sizes: Sizes, device: torch.device, shared: int = 0) -> Tensor:
    """(rows, length) random tokens, the first ones the same in every row."""
    generator = torch.Generator().manual_seed(rows)
    prompts = torch.randint(3, sizes.words + LEVELS * sizes.codes, (rows, length), generator=generator)
    prompts[:, : min(shared, length - 3)] = prompts[0, : min(shared, length - 3)]
    return prompts.to(device)


def _training_tokens(prompts: Tensor, sizes: Sizes, device: torch.device) -> TrainingTokens:
    """Prompts with an item behind each."""
    items = _catalogue(sizes)[: len(prompts)].to(prompts.device)
    rows = torch.cat([prompts, items], dim=1).cpu().numpy()
    count = len(rows)
    samples = Samples(Ragged.from_padded(rows), np.full(count, LEVELS), np.ones(count, np.int64))
    batch = collate(samples, np.arange(count), np.ones(count), 0, pack=False)
    return TrainingTokens(**{name: value.to(device) for name, value in vars(batch).items()})


def _timed(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Median seconds, after two runs to warm up."""
    seconds = []
    for _ in range(2 + repeats):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[2:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(device: torch.device) -> float | None:
    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.type == "cuda" else None


if __name__ == "__main__":
    raise SystemExit(main())
