"""The reward terms that GRPO adds up, each with what it requires; users register their own."""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dig.config import nearest
from dig.config.schema import RewardConfig
from dig.engine.moved import renamed_names
from dig.rollouts.record import Rollouts

__path__: list[str] = []  # it was a package, and who imports a part of that is told its new name (dig.engine.moved)
__all__ = [
    "REWARD_TERMS",
    "Reward",
    "RewardContext",
    "RewardTerm",
    "call_term",
    "interest_aware_reward",
    "module_of",
    "reward_term",
    "shared_prefix",
    "total_reward",
]
__getattr__ = renamed_names(__name__, Groups="dig.rollouts.Rollouts", ItemKnowledge="RewardContext")

_FACTS = ("codes", "quality", "interests", "vectors", "counts", "sequential")
_PAPER = ("hit", "valid", "prefix", "interest")
_MOST = 300
"""Characters of an error of a term that are shown."""


@dataclass(frozen=True)
class Reward:
    """A reward and what it consists of, all (batch, group) and already weighted."""

    total: Tensor
    terms: dict[str, Tensor]


def interest_aware_reward(
    items: Tensor,
    targets: Tensor,
    codes: Tensor | None,
    quality: Tensor | None,
    weights: RewardConfig | Mapping[str, float],
    item_ids: Sequence[str] | None = None,
) -> Reward:
    """R(ŝ) = 1[hit] + λ_valid·1[valid] + λ_pref·LCP(ŝ, s*)/L + α·q_{i*}·1[hit] (DeepInterestGR, arXiv 2602.18907).

    Another item with the target's codes and another suffix earns its prefix but is not a hit.

    Args:
        items: (batch, group) catalogue rows of the rollouts, -1 for a sequence that is not an item.
        targets: (batch,) catalogue rows.
        codes: (items, levels) codes without the collision suffix; None where ``prefix`` has no weight.
        quality: (items,) interest quality q in [0, 1]; None where ``interest`` has no weight.
        weights: the weights of these four terms (``hit``, ``valid``, ``prefix``, ``interest``); those of other terms
            are ignored.
        item_ids: names for messages.

    Raises:
        KeyError: a term has a weight, but not what it reads; or there is no such term.
        ValueError: a quality (which item) or a weight is not finite.
    """
    context = RewardContext(codes, quality, item_ids=item_ids)
    if quality is not None and not torch.isfinite(quality).all():
        row = int((~torch.isfinite(quality)).nonzero()[0])
        raise ValueError(f"the interest quality of {context.name_of(row)} is not finite")
    by_name = weights.weights if isinstance(weights, RewardConfig) else weights
    _check_weights(by_name)
    paper = {name: by_name.get(name, 0.0) for name in _PAPER}
    rollouts = Rollouts.of_items(items, targets)
    return _sum(_weighted(rollouts, context, paper), items)


def total_reward(rollouts: Rollouts, context: RewardContext, weights: Mapping[str, float]) -> Reward:
    """Σ weight · term over the terms with a weight above 0: :func:`interest_aware_reward`, and what others add to it.

    Args:
        rollouts: items and targets, and whatever else the terms read.
        context: what is known of items.
        weights: by the term's name.

    Raises:
        KeyError: there is no such term, or it requires what is not known.
        ValueError: a term raises, gives something else than (batch, group) numbers, or is not finite (which term,
            which item); or a weight is not finite.
    """
    items, targets = rollouts.items, rollouts.targets
    paper = interest_aware_reward(items, targets, context.codes, context.quality, weights, context.item_ids)
    others = {name: weight for name, weight in weights.items() if name not in _PAPER}
    return _sum(paper.terms | _weighted(rollouts, context, others), items)


def _check_weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        if weight and name not in REWARD_TERMS:
            hint = nearest(name, REWARD_TERMS)
            raise KeyError(f"there is no reward term {name}{f'; did you mean {hint}?' if hint else ''}")
        if not math.isfinite(weight):
            raise ValueError(f"the weight of the reward term {name} is {weight}")


def _weighted(rollouts: Rollouts, context: RewardContext, weights: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: weight * call_term(name, rollouts, context) for name, weight in weights.items() if weight}


def _sum(terms: dict[str, Tensor], items: Tensor) -> Reward:
    nothing = torch.zeros(items.shape, device=items.device)
    return Reward(torch.stack([nothing, *terms.values()]).sum(dim=0), terms)


class RewardContext(nn.Module):
    """Facts about the catalogue that reward terms read, all in its order; what no term requires may stay away.

    Nothing of it is trained or saved with a policy.

    Args:
        codes: (items, levels) codes without the collision suffix.
        quality: (items,) interest quality q in [0, 1].
        interests: (items, dim) vectors of the interests that are labelled positive, of length 1, 0 for an item without.
        vectors: (items, dim) vectors of the items' texts, of length 1.
        counts: (items,) how often an item occurs in the training part.
        sequential: a frozen model that gives (batch, items) log-probabilities of the next item from histories.
        item_ids: names for messages.
    """

    codes: Tensor | None
    quality: Tensor | None
    interests: Tensor | None
    vectors: Tensor | None
    counts: Tensor | None

    def __init__(
        self,
        codes: Tensor | None = None,
        quality: Tensor | None = None,
        interests: Tensor | None = None,
        vectors: Tensor | None = None,
        counts: Tensor | None = None,
        sequential: nn.Module | None = None,
        item_ids: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        facts = {"codes": codes, "quality": quality, "interests": interests, "vectors": vectors, "counts": counts}
        for name, fact in facts.items():
            self.register_buffer(name, fact, persistent=False)
        # In a list, so that it is not a submodule: neither saved, nor optimised, nor wrapped by a strategy.
        self._sequential = [] if sequential is None else [sequential.eval().requires_grad_(requires_grad=False)]
        self.item_ids = item_ids

    @property
    def sequential(self) -> nn.Module | None:
        """The frozen sequential model, on the device of the rest."""
        if not self._sequential:
            return None
        facts = next(iter(self.buffers()), None)
        return self._sequential[0] if facts is None else self._sequential[0].to(facts.device)

    def has(self, name: str) -> bool:
        """Whether it is known."""
        return getattr(self, name) is not None

    def get(self, name: str) -> Tensor:
        """A fact.

        Raises:
            KeyError: it is not known.
        """
        fact = getattr(self, name)
        if fact is None:
            raise KeyError(f"the rewards were not given the items' {name}")
        return fact

    def name_of(self, row: int) -> str:
        """An item as messages name it."""
        if row < 0:
            return "a sequence that is not an item"
        return f"item {self.item_ids[row]}" if self.item_ids is not None else f"item row {row}"


TermFunction = Callable[[Rollouts, RewardContext], Tensor]


@dataclass(frozen=True)
class RewardTerm:
    """A term.

    Attributes:
        name: what the configuration calls it.
        function: gives (batch, group) floats from rollouts and from what is known of items.
        requires: the facts that it reads.
    """

    name: str
    function: TermFunction
    requires: frozenset[str]


REWARD_TERMS: dict[str, RewardTerm] = {}
"""All terms, those that come with the project first."""


def reward_term(
    name: str, requires: tuple[str, ...] = (), *, needs: tuple[str, ...] | None = None
) -> Callable[[TermFunction], TermFunction]:
    """Registers a function as a term; a weight in ``grpo.reward.extra`` switches it on.

    Args:
        name: its name.
        requires: the facts of ``RewardContext`` that it reads.
        needs: the earlier name of ``requires``, which is refused.

    Raises:
        ValueError: the name is taken by another function, or a fact is unknown.
    """
    if needs is not None:
        raise ValueError(f"the reward term {name}: needs={needs!r} is called requires={needs!r} now")
    unknown = [fact for fact in requires if fact not in _FACTS]
    if unknown:
        raise ValueError(f"the reward term {name} requires {unknown[0]!r}; items have {', '.join(_FACTS)}")

    def register(function: TermFunction) -> TermFunction:
        earlier = REWARD_TERMS.get(name)
        if earlier and not _is_same(earlier.function, function):
            raise ValueError(f"there is a reward term {name} already, {module_of(earlier.function)}")
        REWARD_TERMS[name] = RewardTerm(name, function, frozenset(requires))
        return function

    return register


@reward_term("hit")
def hit(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 on the target itself (DeepInterestGR, arXiv 2602.18907)."""
    return rollouts.hits.float()


@reward_term("valid")
def valid(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 on a catalogue item (DeepInterestGR)."""
    return rollouts.valid.float()


@reward_term("prefix", requires=("codes",))
def prefix(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """LCP/L: share of leading codes that agree with the target's, the collision suffix left out (DeepInterestGR)."""
    codes = context.get("codes")
    shared = shared_prefix(codes[rollouts.rows], codes[rollouts.targets].unsqueeze(1))
    return shared.float() / codes.shape[1] * rollouts.valid


@reward_term("interest", requires=("quality",))
def interest(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """The target's interest quality q, on a hit only (DeepInterestGR; its weight is α)."""
    return context.get("quality")[rollouts.targets].unsqueeze(1) * rollouts.hits


def shared_prefix(codes: Tensor, target_codes: Tensor) -> Tensor:
    """Number of leading levels at which codes (…, levels) and target codes (…, levels) agree."""
    return (codes == target_codes).long().cumprod(dim=-1).sum(dim=-1)


def call_term(name: str, rollouts: Rollouts, context: RewardContext) -> Tensor:
    """A term's (batch, group) float32 rewards on the rollouts' device, unweighted.

    Tensors of other number formats or on another device, NumPy arrays and nested lists are converted where their shape
    is right.

    Raises:
        KeyError: there is no such term, or it requires what is not known.
        ValueError: as of :func:`total_reward`.
    """
    function = REWARD_TERMS[name].function
    try:
        result = function(rollouts, context)
    except (Exception, SystemExit) as error:  # a term that exits would end the run, and as if it were done
        if _is_ours(function):
            raise
        reason = " ".join(str(error).split())[:_MOST]
        place = _line_of(function, error)
        raise ValueError(f"the reward term {name} raises {type(error).__name__}: {reason} ({place})") from error
    rewards = _numbers(result, rollouts.old_log_probs.device)
    if rewards is None or rewards.shape != rollouts.items.shape:
        shape = type(result).__name__ if rewards is None else str(tuple(rewards.shape))
        raise ValueError(
            f"the reward term {name} is {'None' if result is None else shape}, but the rollouts are "
            f"{tuple(rollouts.items.shape)}: it must return (batch, group) numbers ({_line_of(function)})"
        )
    _check_finite(name, rewards, rollouts, context)
    return rewards


def _numbers(result: Any, device: torch.device) -> Tensor | None:
    """What a term gave as float32 numbers; None where it is not an array of numbers."""
    if isinstance(result, Tensor):
        if result.is_complex() or result.is_meta or result.layout != torch.strided:
            return None
        return result.detach().to(device, torch.float32)
    if isinstance(result, (list, tuple, np.ndarray)):
        try:
            return torch.from_numpy(np.array(result, dtype=np.float32)).to(device)
        except (ValueError, TypeError, RuntimeError):  # ragged, words, None, tensors of another device
            return None
    return None


def _check_finite(name: str, rewards: Tensor, rollouts: Rollouts, context: RewardContext) -> None:
    broken = ~torch.isfinite(rewards)
    if broken.any():
        prompt, place = broken.nonzero()[0].tolist()
        item, target = int(rollouts.items[prompt, place]), int(rollouts.targets[prompt])
        function = REWARD_TERMS[name].function
        raise ValueError(
            f"the reward term {name} is {rewards[prompt, place].item()} for {context.name_of(item)} where "
            f"{context.name_of(target)} was wanted{'' if _is_ours(function) else f' ({_line_of(function)})'}"
        )


def module_of(function: Callable[..., Any]) -> str:
    """The module that a term comes from."""
    return str(_code_of(function).__module__)


def _is_ours(function: Callable[..., Any]) -> bool:
    return module_of(function).startswith("dig.")


def _code_of(function: Callable[..., Any]) -> Any:
    """What a term's source stands in: the function behind decorators and partials, or the class of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    inner = inspect.unwrap(function)
    return inner if hasattr(inner, "__qualname__") else type(inner)


def _is_same(first: Callable[..., Any], second: Callable[..., Any]) -> bool:
    """Whether two are one definition: loaded again, or of a script that is imported by its name, too."""
    one, other = _code_of(first), _code_of(second)
    if one.__qualname__ != other.__qualname__:
        return False
    files = [getattr(getattr(each, "__code__", None), "co_filename", None) for each in (one, other)]
    return module_of(first) == module_of(second) or (files[0] is not None and files[0] == files[1])


def _line_of(function: Callable[..., Any], error: BaseException | None = None) -> str:
    """``file:line`` in a term's file where an error was raised, else where the term begins."""
    code = getattr(_code_of(function), "__code__", None)
    if code is None:  # an object that can be called
        return module_of(function)
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == code.co_filename), None)
    return f"{code.co_filename}:{line or code.co_firstlineno}"


POPULAR_SHARE = 0.1
"""The most popular tenth of the catalogue is not news to anybody (SMORL)."""


@reward_term("similarity", requires=("quality", "interests"))
def similarity(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """Cosine of the rollout's and the target's positive interests, cut at 0, times the target's q.

    A form of the interest-aware reward that pays a near miss; nothing where either has no positive interest.
    """
    vectors = context.get("interests")
    cosine = torch.einsum("bgd,bd->bg", vectors[rollouts.rows], vectors[rollouts.targets])
    return cosine.clamp(min=0.0) * context.get("quality")[rollouts.targets].unsqueeze(1) * rollouts.valid


@reward_term("rank")
def rank(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """-w_i/Σw with w_i = 1/log2(i + 2) on a miss at place i, in groups that hold the target (MiniOneRec,
    arXiv 2510.24431): the surer the policy was of a miss, the more it costs."""
    places = torch.arange(rollouts.items.shape[1], device=rollouts.items.device)
    weights = 1.0 / torch.log2(places + 2.0)
    penalty = -(weights / weights.sum())[rollouts.ranks]
    return penalty * (~rollouts.hits & rollouts.hits.any(dim=1, keepdim=True))


@reward_term("collaborative", requires=("sequential",))
def collaborative(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """What a frozen sequential model thinks of the rollout: 1 + log P(ŝ)/log N with N items, no less than -1.

    MiniOneRec pays the model's logits; so scaled, certainty pays 1 and what a uniform guess would say pays 0, whatever
    the model and the catalogue. Nothing where a prompt has no history.
    """
    model = context.sequential
    if model is None:
        raise KeyError("the rewards were not given a sequential model")
    log_probs = model(rollouts.histories)
    scaled = 1.0 + log_probs.gather(1, rollouts.rows) / math.log(max(log_probs.shape[1], 2))
    return scaled.clamp(min=-1.0) * rollouts.valid * (rollouts.histories >= 0).any(dim=1, keepdim=True)


@reward_term("diversity", requires=("vectors",))
def diversity(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 - cosine of the rollout's text and the latest item's (SMORL, arXiv 2110.15097); 0 without a history."""
    vectors = context.get("vectors")
    latest = rollouts.histories[:, -1]
    cosine = torch.einsum("bgd,bd->bg", vectors[rollouts.rows], vectors[latest.clamp(min=0)])
    return (1.0 - cosine) * rollouts.valid * (latest >= 0).unsqueeze(1)


@reward_term("novelty", requires=("counts",))
def novelty(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 on an item that is not among the most popular tenth of the catalogue (SMORL)."""
    counts = context.get("counts")
    above = counts.sort(descending=True).values[max(round(POPULAR_SHARE * len(counts)), 1) - 1]
    return (counts < above).float()[rollouts.rows] * rollouts.valid


@reward_term("unseen")
def unseen(rollouts: Rollouts, context: RewardContext) -> Tensor:
    """1 on an item that the prompt's history does not hold; for shops where few things are bought twice."""
    held = (rollouts.items.unsqueeze(2) == rollouts.histories.unsqueeze(1)).any(dim=2)
    return (rollouts.valid & ~held).float()
