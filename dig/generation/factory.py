"""The one place that knows every `PathModel`: which of them fits a model.

A path model calls a model as its authors may not have meant it: with masks of trees, position ids, padding, one cache
for many paths. Whether an architecture keeps to all of that cannot be read off its class, and where it does not, scores
are wrong without an error. So a model is asked once, on two short prompts, and the first path model that gives its own
logits is taken: the tree in one row, else every path as an ordinary sequence, else the same with the logits of the
model's own forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dig.config import UserError
from dig.engine.console import say
from dig.engine.ranks import global_rank
from dig.generation.causal_paths import CausalPathModel, ReplicatedPathModel, without_cache
from dig.generation.decoder_paths import decoder_paths
from dig.generation.intrr import IntRR
from dig.generation.intrr_paths import IntRRPathModel
from dig.generation.path_model import PathModel
from dig.generation.t5_paths import T5PathModel
from dig.generation.tree_paths import TreePathModel, without_adapters

__all__ = [
    "Choice",
    "NotCausalError",
    "PathModelError",
    "as_path_model",
    "causal_paths",
    "check_intrr",
    "check_paths",
    "choose_paths",
]

_LENGTHS = (7, 4)
"""Tokens of the prompts; behind them there are two paths of two tokens."""
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Of log-probabilities, in standard deviations over the vocabulary: what other kernels round otherwise is a thousandth
of it, what a wrong mask moves is more."""
_SAME = torch.arange(2).expand(2, -1)
"""Paths that stay where they are."""
_KNOWN_WINDOWS = frozenset({"sliding_window", "attention_chunk_size", "use_sliding_window", "max_window_layers"})


class PathModelError(ValueError):
    """No path model gives a model's own scores; the message names the architecture and what is off."""


class _LaterTokensError(PathModelError):
    """Scores depend on later tokens."""


class NotCausalError(UserError):
    """A model whose scores depend on later tokens."""


@dataclass(frozen=True)
class Choice:
    """The path model that fits a model.

    Attributes:
        make: builds it of the model, bare or with adapters.
        because: why it is not the tree in one row; None where it is.
    """

    make: Callable[[nn.Module], TreePathModel]
    because: str | None = None


@dataclass(frozen=True)
class _Probe:
    """Two prompts, two paths behind each, and what the model itself says of them.

    Attributes:
        prompts: tokens of each prompt.
        paths: (2, 2, 2) tokens of each path.
        log_probs: (2, 2, 3, vocabulary) after the prompt and after each token.
        scale: standard deviation of log-probabilities over the vocabulary.
        tolerance: what may be off, in ``scale``.
    """

    prompts: list[Tensor]
    paths: Tensor
    log_probs: Tensor
    scale: float
    tolerance: float


_CHOICES: WeakKeyDictionary[nn.Module, Choice] = WeakKeyDictionary()


def choose_paths(model: nn.Module) -> Choice:
    """The fastest path model that gives a model's own scores; a model is asked once.

    Args:
        model: a causal language model or a T5, bare or with adapters.

    Raises:
        PathModelError: there is none, with the architecture and the reason.
        ValueError: an encoder-decoder that is not a T5.
    """
    causal = without_adapters(model)
    if causal not in _CHOICES:
        with _as_in_use(causal):
            _CHOICES[causal] = _choice(causal)
    return _CHOICES[causal]


def check_paths(model: nn.Module, where: str, exit_code: int = 1) -> None:
    """Chooses before any work is done with a model, and says so where the choice is a slow one.

    Args:
        model: as of :func:`choose_paths`.
        where: the key or the folder that it comes from.
        exit_code: of the error.

    Raises:
        NotCausalError: its scores depend on later tokens.
        UserError: nothing gives its own scores.
    """
    try:
        because = choose_paths(model).because
    except _LaterTokensError as error:
        raise NotCausalError(f"{where}: {error}", exit_code) from None
    except ValueError as error:
        raise UserError(f"{where}: {error}", exit_code) from None
    if because is not None and global_rank() == 0:
        say(f"{where}: paths cannot share a row ({because}), so each is a sequence of its own: slower, exact")


def as_path_model(model: nn.Module | PathModel) -> PathModel:
    """The path model that fits a model; one that was made by hand stays as it is, if it fits.

    Raises:
        PathModelError: none gives the model's own scores.
        ValueError: an encoder-decoder that is not a T5.
    """
    if isinstance(model, PathModel):
        _confirm(model)
        return model
    if isinstance(model, IntRR):  # a class of dig's own, which is checked when it is loaded
        return IntRRPathModel(model)
    return choose_paths(model).make(model)


def causal_paths(model: nn.Module) -> CausalPathModel:
    """The same of a causal language model, which also gives the states of rows of tokens.

    Raises:
        PathModelError: it is none, or nothing gives its own scores.
    """
    paths = as_path_model(model)
    if not isinstance(paths, CausalPathModel):
        raise PathModelError(f"a {type(model).__name__} is not a causal language model")
    return paths


def _confirm(paths: PathModel) -> None:
    """Refuses a tree of paths, made by hand, of a model that it does not fit."""
    if type(paths) is not CausalPathModel:
        return
    because = choose_paths(paths.model).because
    if because is not None:
        raise PathModelError(
            f"paths of a {paths.config.model_type} cannot share a row ({because}); pass the model itself"
        )


def _choice(causal: Any) -> Choice:
    kind = causal.config.model_type
    if causal.config.is_encoder_decoder:
        return _choice_of_t5(causal)
    probe = _probe(causal)
    if probe is None:  # weights that are not numbers are told by whoever trains or ranks
        return Choice(CausalPathModel)
    reason = _own_window(causal.config) or _why_not(CausalPathModel, causal, probe)
    if reason is None:
        return Choice(CausalPathModel if _why_not(decoder_paths, causal, probe) else decoder_paths)
    for whole in (False, True):
        make = partial(ReplicatedPathModel, whole=whole)
        last = _why_not(make, causal, probe)
        if last is None:
            return Choice(make, reason)
    raise PathModelError(f"a {kind} cannot be scored: of paths that share a row, {reason}; of each path alone, {last}")


def _choice_of_t5(model: Any) -> Choice:
    T5PathModel(model)  # refuses what is not a T5
    probe = _probe(model)
    reason = None if probe is None else _why_not(T5PathModel, model, probe)
    if reason is not None:
        raise PathModelError(f"a {model.config.model_type} cannot be scored: {reason}")
    return Choice(T5PathModel)


def _why_not(make: Callable[[nn.Module], TreePathModel], causal: Any, probe: _Probe) -> str | None:
    """What is wrong with a path model, or None."""
    try:
        for off in _differences(make(causal), probe):
            if off > probe.tolerance * probe.scale + 1e-5:
                return f"log-probabilities are off by {off:.1e} from the model's own"
    except Exception as error:  # whatever an architecture does with calls that it does not expect
        return f"its code stops with {type(error).__name__}: {_first_line(error)}"
    return None


def _probe(causal: Any) -> _Probe | None:
    """The model's own answers, each prompt alone, without padding, mask and cache; None where they are not numbers.

    Raises:
        PathModelError: it has none, or they depend on tokens that come later.
    """
    kind, device = causal.config.model_type, next(causal.parameters()).device
    tokens = _plain_tokens(causal.config)
    context = min(getattr(causal.config.get_text_config(), name, None) or 64 for name in CausalPathModel.lengths)
    lengths = [max(1, min(length, context - 2)) for length in _LENGTHS]
    prompts = [tokens[: lengths[0]], tokens[_LENGTHS[0] : _LENGTHS[0] + lengths[1]]]
    paths = tokens[sum(_LENGTHS) :].view(2, 2, 2)
    prompts, paths = [prompt.to(device) for prompt in prompts], paths.to(device)
    try:
        logits = torch.stack([_own_logits(causal, prompt, path) for prompt, path in zip(prompts, paths, strict=True)])
    except Exception as error:  # whatever an architecture wants beside tokens
        raise PathModelError(
            f"a {kind} does not run on tokens alone: {type(error).__name__}: {_first_line(error)}"
        ) from None
    log_probs = logits.log_softmax(dim=-1)
    if not log_probs.isfinite().all():
        return None
    scale = float(log_probs.std(dim=-1).mean())
    tolerance = _TOLERANCE.get(next(causal.parameters()).dtype, 1e-1)
    moved = (log_probs[:, 0, 0] - log_probs[:, 1, 0]).abs().max().item()
    if moved > tolerance * scale + 1e-5:
        raise _LaterTokensError(
            f"a {kind} looks at later tokens (its log-probabilities move by {moved:.1e}), so it "
            "is not a causal language model"
        )
    return _Probe(prompts, paths, log_probs, scale, tolerance)


def _own_logits(causal: Any, prompt: Tensor, paths: Tensor) -> Tensor:
    """(paths, 1 + steps, vocabulary) of the model's own forward pass, after the prompt and after each token."""
    settings, prompts = without_cache(causal), prompt.expand(len(paths), -1)
    if causal.config.is_encoder_decoder:
        start = torch.full_like(paths[:, :1], causal.config.decoder_start_token_id)
        logits: Tensor = causal(
            input_ids=prompts, decoder_input_ids=torch.cat([start, paths], dim=1), **settings
        ).logits
    else:
        rows = torch.cat([prompts, paths], dim=1)
        logits = causal(input_ids=rows, **settings).logits[:, prompts.shape[1] - 1 :]
    return logits.float()


def _differences(view: TreePathModel, probe: _Probe) -> Iterator[float]:
    """Between a path model's log-probabilities and the model's own, for all that it is asked."""
    crossed = torch.tensor([1, 0], device=probe.paths.device).expand(2, -1)  # paths may change their places
    for left in (False, True):
        ids, mask = _padded(probe.prompts, left)
        state = view.encode(ids, mask, spare=4)
        yield _difference(view, state.hidden, probe.log_probs[:, 0, 0])
        first = view.feed(state, probe.paths[:, :, 0], None, 0)
        if left:  # what was fed is forgotten
            state.rewind()
            first = view.feed(state, probe.paths[:, :, 0], None, 0)
        yield _difference(view, first, probe.log_probs[:, :, 1])
        second = view.feed(state, probe.paths[:, :, 1].gather(1, crossed), crossed, 1)
        yield _difference(view, second, probe.log_probs[:, :, 2].flip(1))
        after_prompt, after_tokens = view.run_tree(ids, mask, probe.paths)
        yield _difference(view, after_prompt, probe.log_probs[:, 0, 0])
        yield _difference(view, after_tokens, probe.log_probs[:, :, 1:])
    if not isinstance(view, CausalPathModel):
        return
    # two samples in one row, and one alone, as they are trained
    samples = [torch.cat([prompt, paths[0]]) for prompt, paths in zip(probe.prompts, probe.paths, strict=True)]
    mask = torch.cat([torch.full_like(sample, number) for number, sample in enumerate(samples, start=1)])
    states = view.hidden(torch.cat(samples).unsqueeze(0), mask.unsqueeze(0))[0]
    for sample, row in enumerate(states.split([len(sample) for sample in samples])):
        yield _difference(view, row[-3:], probe.log_probs[sample, 0])
    alone = view.hidden(samples[0].unsqueeze(0), torch.ones_like(samples[0]).unsqueeze(0))[0]
    yield _difference(view, alone[-3:], probe.log_probs[0, 0])


@torch.no_grad()
def check_intrr(model: IntRR, where: str) -> None:
    """Compares an IntRR's states behind padded histories, code by code, with those of each history alone, in one pass.

    Args:
        model: in evaluation mode, before anything of it is remembered.
        where: the folder that it comes from.

    Raises:
        UserError: they differ.
    """
    view, generator = IntRRPathModel(model), torch.Generator().manual_seed(0)
    steps = len(model.sizes.codes) - 1
    histories = [
        torch.randint(len(model.codes), (min(length, model.sizes.max_history),), generator=generator)
        for length in _LENGTHS
    ]
    levels = [torch.randint(size, (2, 2), generator=generator) for size in model.sizes.codes[:steps]]
    paths = torch.stack([*levels, torch.zeros(2, 2, dtype=torch.int64)], dim=-1)[..., :steps]
    paths = (paths + torch.tensor(view.firsts[:steps], dtype=torch.int64)).to(model.codes.device)
    histories = [history.to(paths.device) for history in histories]
    guidance = torch.cat([model.last_states(history.unsqueeze(0)) for history in histories])
    pairs = [(guidance, guidance)]
    for left in (False, True):
        state = view.encode(*_padded(histories, left))
        pairs.append((state.hidden, guidance))
        for step in range(steps):
            after = view.feed(state, paths[..., step], None if step == 0 else _SAME.to(paths.device), step)
            pairs.append((after, view.after(guidance.unsqueeze(1), paths)[:, :, step]))
    if not guidance.isfinite().all():
        return
    off = max(float((states - expected).abs().max() / (expected.std() + 1e-6)) for states, expected in pairs)
    if not off <= _TOLERANCE[torch.float32]:
        raise UserError(f"{where}: an IntRR cannot be scored: states are off by {off:.1e} from the model's own")


def _difference(view: TreePathModel, hidden: Tensor, log_probs: Tensor) -> float:
    return (view.logits(hidden).log_softmax(dim=-1) - log_probs).abs().nan_to_num(float("inf")).max().item()


def _padded(prompts: list[Tensor], left: bool) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64, device=prompts[0].device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), None) if left else slice(len(prompt))
        ids[row, place], mask[row, place] = prompt, 1
    return ids, mask


def _plain_tokens(config: Any) -> Tensor:
    """Tokens of prompts and paths, none with a meaning of its own (padding, a picture's place)."""
    count = sum(_LENGTHS) + 8
    settings = [config.to_dict(), config.get_text_config().to_dict()]
    special = {
        value
        for keys in settings
        for key, value in keys.items()
        if key.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    rows = config.get_text_config().vocab_size
    order = torch.randperm(min(rows, 4096), generator=torch.Generator().manual_seed(0))
    plain = order[~torch.isin(order, torch.tensor(sorted(special), dtype=torch.int64))]
    plain = plain if len(plain) else order
    return plain.repeat(-(-count // len(plain)))[:count]


def _own_window(config: Any) -> str | None:
    """A window that bounds attention under a name that the tree's limits do not know (GPT-Neo's, by places)."""
    for name, value in config.get_text_config().to_dict().items():
        if "window" in name and "pattern" not in name and name not in _KNOWN_WINDOWS and _is_number(value):
            return f"attention is bound by its {name}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and value > 1


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


@contextmanager
def _as_in_use(causal: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients and in the weights' own precision; what was in training goes back to it."""
    training = [module for module in causal.modules() if module.training]
    causal.eval()
    try:
        with torch.no_grad(), torch.autocast(next(causal.parameters()).device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True
