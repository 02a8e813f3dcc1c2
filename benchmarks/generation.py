"""Constrained beam search against transformers' ``generate`` under a prefix function, and against the prompts alone.

A 5.7 M-parameter Qwen2, 160-token prompts, 20 beams, a catalogue of 12,000 items. All rates are from one run.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from dig.generation import CatalogueTrie, beam_search
from dig.generation.decoder import Decoder

ITEMS, CODES, LEVELS = 12_000, 256, 3
PROMPT, BEAMS, USERS, REPEATS = 160, 20, 16, 3
FIRST_CODE = 4


def main() -> None:
    """Measures and prints a table and, as the last line, JSON."""
    torch.manual_seed(0)
    model = _model()
    tokens = _catalogue()
    prompts = torch.randint(FIRST_CODE, FIRST_CODE + CODES, (USERS, PROMPT))
    mask = torch.ones_like(prompts)
    trie = CatalogueTrie(tokens)
    allowed = _dictionary_trie(tokens)
    ours = _rate(lambda: beam_search(model, prompts, mask, trie, BEAMS, normalise="vocabulary"))
    bare = _rate(lambda: Decoder(model).encode(prompts, mask))
    theirs = _rate(lambda: _generate(model, prompts, mask, allowed), repeats=1)
    table = Table(title=f"beam search, {BEAMS} beams, prompts of {PROMPT} tokens, {ITEMS:,} items")
    table.add_column("how")
    table.add_column("users/s", justify="right")
    rates = {"dig.generation.beam_search": ours, "transformers generate": theirs, "prompts alone": bare}
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.1f}")
    Console().print(table)
    print(json.dumps({"generate_ratio": round(ours / theirs, 2), "prompt_fraction": round(ours / bare, 3)}))


def _model() -> torch.nn.Module:
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=FIRST_CODE + CODES * LEVELS,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def _catalogue() -> torch.Tensor:
    codes = torch.randint(0, CODES, (ITEMS * 2, LEVELS)).unique(dim=0)
    codes = codes[torch.randperm(len(codes))[:ITEMS]]
    return codes + FIRST_CODE + CODES * torch.arange(LEVELS)


def _dictionary_trie(tokens: torch.Tensor) -> dict[tuple[int, ...], list[int]]:
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in tokens.tolist():
        for level in range(LEVELS):
            children[tuple(row[:level])].add(row[level])
    return {prefix: sorted(found) for prefix, found in children.items()}


@torch.no_grad()
def _generate(model: torch.nn.Module, prompts: torch.Tensor, mask: torch.Tensor, allowed: dict) -> None:
    model.generate(  # type: ignore[operator]
        prompts,
        attention_mask=mask,
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=LEVELS,
        min_new_tokens=LEVELS,
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, row: allowed[tuple(row[PROMPT:].tolist())],
    )


def _rate(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Users a second, the best of some repeats after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        with torch.no_grad():
            work()
        times.append(time.perf_counter() - started)
    return USERS / min(times)


if __name__ == "__main__":
    main()
