"""Constrained beam search beside ``generate`` and beside its prompts alone; the constraint step; the trie at size.

A 5.7 M-parameter Qwen2, a catalogue of 12,000 items. All rates of a table are from one run. ``STATIC_PATH`` may name a
checkout of youtube/static-constraint-decoding, whose PyTorch step is then measured in the same run. With ``--gpu`` and
a CUDA device: a Qwen2 of 0.5 B parameters in bfloat16, prompts of 512 tokens, 50 beams.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.generation import PrefixConstrainedLogitsProcessor

from dig.generation import CatalogueTrie, beam_search
from dig.generation.causal_paths import CausalPathModel

ITEMS, CODES, LEVELS = 12_000, 256, 3
PROMPT, BEAMS, USERS = 160, 20, 16
GRID_BEAMS, GRID_PROMPTS = (10, 20, 50), (40, 160, 640)
CATALOGUES = (12_000, 1_000_000, 10_000_000)
STEP_ROWS, STEP_BEAMS = 64, 20
MEMORY_USERS = 128
FIRST_CODE = 4
Work = Callable[[], object]


def main() -> None:
    """Measures and prints tables and, as the last line, JSON."""
    if "--gpu" in sys.argv:
        _gpu()
        return
    figures = _rates() | _constraint() | _memory()
    print(json.dumps(figures))


# --- beam search -----------------------------------------------------------------------------------------------------


def _rates() -> dict[str, Any]:
    torch.manual_seed(0)
    model, tokens = _model(), _catalogue(ITEMS) + FIRST_CODE + CODES * torch.arange(LEVELS)
    trie, allowed = CatalogueTrie(tokens), _dictionary_trie(tokens)
    prompts, mask = _prompts(USERS, PROMPT)
    ours, bare = _paired(_search(model, prompts, mask, trie, BEAMS), _encode(model, prompts, mask))
    theirs = _seconds(lambda: _generate(model, prompts, mask, allowed), repeats=2)
    table = Table(title=f"users/s: {BEAMS} beams, prompts of {PROMPT} tokens, {ITEMS:,} items")
    table.add_column("how")
    table.add_column("users/s", justify="right")
    for name, seconds in (
        ("dig.generation.search", ours),
        ("transformers generate", theirs),
        ("encoding the prompts alone", bare),
    ):
        table.add_row(name, f"{USERS / seconds:.1f}")
    Console().print(table)
    _grid(model, trie)
    return {"generate_ratio": round(theirs / ours, 2), "prompt_fraction": round(bare / ours, 3)}


def _grid(model: torch.nn.Module, trie: CatalogueTrie) -> None:
    table = Table(title="users/s (and share of encoding the prompts alone)")
    table.add_column("prompt tokens", justify="right")
    for beams in GRID_BEAMS:
        table.add_column(f"{beams} beams", justify="right")
    for length in GRID_PROMPTS:
        prompts, mask = _prompts(USERS, length)
        cells = []
        for beams in GRID_BEAMS:
            search, encode = _search(model, prompts, mask, trie, beams), _encode(model, prompts, mask)
            ours, bare = _paired(search, encode, repeats=4)
            cells.append(f"{USERS / ours:.1f} ({bare / ours:.0%})")
        table.add_row(str(length), *cells)
    Console().print(table)


def _search(model: torch.nn.Module, prompts: Tensor, mask: Tensor, trie: CatalogueTrie, beams: int) -> Work:
    return lambda: beam_search(model, prompts, mask, trie, beams)


def _encode(model: torch.nn.Module, prompts: Tensor, mask: Tensor) -> Work:
    return lambda: CausalPathModel(model).encode(prompts, mask)


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


@torch.no_grad()
def _generate(model: torch.nn.Module, prompts: Tensor, mask: Tensor, allowed: dict) -> None:
    width = prompts.shape[1]
    model.generate(  # type: ignore[operator]
        prompts,
        attention_mask=mask,
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=LEVELS,
        min_new_tokens=LEVELS,
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, row: allowed[tuple(row[width:].tolist())],
    )


# --- the constraint step ---------------------------------------------------------------------------------------------


def _constraint() -> dict[str, Any]:
    """The last of three levels: what every beam may be followed by, and its log-probability."""
    static = os.environ.get("STATIC_PATH")
    table = Table(title=f"{STEP_ROWS} × {STEP_BEAMS} beams: one constraint step, and the trie behind it")
    for heading in ("items", "dig, ms", "dictionary, ms", "STATIC, ms", "built in, s", "bytes an item"):
        table.add_column(heading, justify="right")
    ratios: dict[str, list[float]] = defaultdict(list)
    for items in CATALOGUES:
        codes = _catalogue(items)
        started = time.perf_counter()
        trie = CatalogueTrie(codes)
        built = time.perf_counter() - started
        size = sum(buffer.numel() * buffer.element_size() for buffer in trie.buffers()) / items
        rows = codes[torch.randint(items, (STEP_ROWS * STEP_BEAMS,))]
        nodes = trie.paths(trie.find(rows))[:, LEVELS - 2].view(STEP_ROWS, STEP_BEAMS)
        log_probs = torch.randn(STEP_ROWS, STEP_BEAMS, CODES).log_softmax(dim=-1)
        ours = _seconds(partial(_step, trie, nodes, log_probs), repeats=300)
        theirs = "not measured"
        if static:
            seconds = _static_step(static, codes, rows, log_probs)
            ratios["static"].append(seconds / ours)
            theirs = f"{seconds * 1e3:.2f}"
        plain = ""
        if items <= CATALOGUES[1]:
            allowed = _dictionary_trie(codes)
            processor = PrefixConstrainedLogitsProcessor(
                lambda _, row, allowed=allowed: allowed[tuple(row.tolist())], STEP_BEAMS
            )
            seconds = _seconds(
                partial(_dictionary_step, processor, rows[:, : LEVELS - 1], log_probs.flatten(0, 1)), repeats=3
            )
            ratios["dictionary"].append(seconds / ours)
            plain = f"{seconds * 1e3:.1f}"
        table.add_row(f"{items:,}", f"{ours * 1e3:.2f}", plain, theirs, f"{built:.2f}", f"{size:.1f}")
    Console().print(table)
    return {
        "dict_trie_ratio": round(min(ratios["dictionary"]), 1),
        "static_ratio": round(min(ratios["static"]), 2) if ratios["static"] else None,
    }


@torch.no_grad()
def _step(trie: CatalogueTrie, nodes: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    children, mask = trie.allowed(nodes, LEVELS - 1)
    chosen = log_probs.gather(-1, trie.slots_of(children))
    return children, chosen.masked_fill_(~mask, float("-inf"))


def _dictionary_step(processor: PrefixConstrainedLogitsProcessor, prefixes: Tensor, log_probs: Tensor) -> Tensor:
    """transformers' own step around a dictionary of prefixes: a beam at a time."""
    return processor(prefixes, log_probs)


def _static_step(path: str, codes: Tensor, rows: Tensor, log_probs: Tensor) -> float:
    sys.path.insert(0, path)
    from static_decoding.csr_utils import build_static_index  # type: ignore[import-not-found]
    from static_decoding.decoding_pt import generate_and_apply_logprobs_mask  # type: ignore[import-not-found]

    order = CatalogueTrie(codes).order.long()
    packed, pointers, branches, _, _, dense_states = build_static_index(codes[order].numpy(), CODES, LEVELS - 1)
    packed, pointers, dense_states = (torch.from_numpy(part) for part in (packed, pointers, dense_states))
    states = dense_states[rows[:, 0], rows[:, 1]].long()
    flat = log_probs.flatten(0, 1)
    arguments = (flat, states, packed, pointers, int(branches[LEVELS - 1]), CODES, torch.device("cpu"))
    return _seconds(lambda: generate_and_apply_logprobs_mask(*arguments), repeats=300)


# --- memory ----------------------------------------------------------------------------------------------------------


def _memory() -> dict[str, Any]:
    """What each way takes above a process that has the model and has encoded one prompt."""
    used = {task: _measured(task) for task in ("encode", "search")}
    table = Table(title=f"peak memory, {MEMORY_USERS} prompts of {PROMPT} tokens, {BEAMS} beams")
    table.add_column("how")
    table.add_column("MB", justify="right")
    for name, task in (("encoding the prompts alone", "encode"), ("dig.generation.search", "search")):
        table.add_row(name, f"{used[task] / 1e6:.0f}")
    Console().print(table)
    return {"memory_fraction": round(used["search"] / used["encode"], 3)}


def _measured(task: str) -> int:
    command = [sys.executable, __file__, "--task", task]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
    return int(output.splitlines()[-1])


def _task(name: str) -> None:
    torch.manual_seed(0)
    model = _model()
    trie = CatalogueTrie(_catalogue(ITEMS) + FIRST_CODE + CODES * torch.arange(LEVELS))

    def work(users: int) -> None:
        prompts, mask = _prompts(users, PROMPT)
        with torch.no_grad():
            if name == "encode":
                CausalPathModel(model).encode(prompts, mask)
            else:
                beam_search(model, prompts, mask, trie, BEAMS)

    work(1)
    before = _peak()
    work(MEMORY_USERS)
    print(_peak() - before)


def _peak() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


# --- on a GPU --------------------------------------------------------------------------------------------------------


def _gpu() -> None:
    """The same comparison on CUDA: Qwen2 of 0.5 B parameters, bfloat16, prompts of 512 tokens, 50 beams."""
    users, length, beams = 32, 512, 50
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=151_936 + CODES * LEVELS,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().cuda()
    tokens = _catalogue(ITEMS) + 151_936 + CODES * torch.arange(LEVELS)
    trie = CatalogueTrie(tokens).cuda()
    prompts, mask = (part.cuda() for part in _prompts(users, length))

    def timed(work: Work) -> float:
        def waited() -> None:
            work()
            torch.cuda.synchronize()

        return _seconds(waited, repeats=10)

    ours = timed(lambda: beam_search(model, prompts, mask, trie, beams))
    bare = timed(lambda: CausalPathModel(model).encode(prompts, mask))
    peaks = []
    for work in (
        lambda: CausalPathModel(model).encode(prompts, mask),
        lambda: beam_search(model, prompts, mask, trie, beams),
    ):
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            work()
        peaks.append(torch.cuda.max_memory_allocated() / 1e9)
    print(f"{users / ours:.1f} users/s, prompts alone {users / bare:.1f}; peak {peaks[1]:.2f} GB and {peaks[0]:.2f} GB")
    print(json.dumps({"gpu_prompt_fraction": round(bare / ours, 3), "gpu_users_per_second": round(users / ours, 1)}))


# --- small helpers ---------------------------------------------------------------------------------------------------


def _catalogue(items: int) -> Tensor:
    """Random distinct Semantic IDs (items, levels), in random order."""
    generator = torch.Generator().manual_seed(items)
    numbers = torch.randint(CODES**LEVELS, (items * 4,), generator=generator).unique()
    numbers = numbers[torch.randperm(len(numbers), generator=generator)[:items]]
    if len(numbers) < items:  # more than half of all there are
        numbers = torch.randperm(CODES**LEVELS, generator=generator)[:items]
    return torch.stack([numbers // CODES**level % CODES for level in reversed(range(LEVELS))], dim=1)


def _prompts(users: int, length: int) -> tuple[Tensor, Tensor]:
    prompts = torch.randint(FIRST_CODE, FIRST_CODE + CODES, (users, length))
    return prompts, torch.ones_like(prompts)


def _dictionary_trie(tokens: Tensor) -> dict[tuple[int, ...], list[int]]:
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in tokens.tolist():
        for level in range(LEVELS):
            children[tuple(row[:level])].add(row[level])
    return {prefix: sorted(following) for prefix, following in children.items()}


def _paired(one: Work, other: Work, repeats: int = 8) -> tuple[float, float]:
    """Best seconds of both, measured by turns, so that a slow moment hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, seconds in zip((one, other), times, strict=True):
            seconds.append(_seconds(work, repeats=1, warm=not seconds))
    return min(times[0]), min(times[1])


def _seconds(work: Work, repeats: int, warm: bool = True) -> float:
    """The best of some repeats, after a warm-up."""
    with torch.no_grad():
        if warm:
            work()
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    if "--task" in sys.argv:
        _task(sys.argv[sys.argv.index("--task") + 1])
    else:
        main()
