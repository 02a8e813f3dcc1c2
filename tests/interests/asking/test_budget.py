import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from dig.config.schema import ModelConfig
from dig.interests.asking.budget import Budget, BudgetSpentError, cost_of, most_tokens
from dig.interests.models.response import Message, probable_tokens


def test_costs_are_dollars_a_million_tokens():
    config = ModelConfig(model="m", price_in=2.0, price_out=10.0)
    assert cost_of(config, 1_000_000, 500_000) == pytest.approx(7.0)
    assert cost_of(ModelConfig(model="m"), 1e6, 1e6) == 0.0


def test_estimates_and_bounds_count_bytes_and_pictures():
    config = ModelConfig(model="m", picture_tokens=100)
    messages = [Message("system", "ab"), Message("user", "ü" * 10, Path("p.png"))]
    assert probable_tokens(config, messages) == (2 + 20) / 4 + 100
    assert most_tokens(config, messages) == 2 + 20 + 32 + 400


def test_the_worst_tokenizer_finds_no_more_than_the_bound():
    """A byte-level one that has not learned a single pair: a token a byte."""
    alphabet = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    config = ModelConfig(model="m")
    for text in ("plain words", "日本語の説明", "\u200b\x07\ufffd", "a" * 1000, ""):
        tokens = len(tokenizer.encode(text).ids)
        assert len(text) <= tokens <= most_tokens(config, [Message("user", text)])


def test_the_requests_are_counted_with_those_before():
    budget = Budget(None, 5, requests=3)

    async def spend():
        await budget.reserve(1.0)
        await budget.reserve(1.0)
        await budget.reserve(1.0)

    with pytest.raises(BudgetSpentError, match=r"mining\.max_requests=5"):
        asyncio.run(spend())


def test_a_request_waits_for_others_that_may_leave_room():
    async def scene() -> list[str]:
        budget, events = Budget(1.0, None), []
        await budget.reserve(0.9)

        async def second():
            await budget.reserve(0.5)
            events.append("second")

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.01)
        events.append("settled")
        budget.settle(0.9, 0.2)  # it cost less than it might have
        await waiting
        with pytest.raises(BudgetSpentError, match=r"mining\.max_cost_usd=1"):
            budget.settle(0.5, 0.5)
            await budget.reserve(0.4)
        return events

    assert asyncio.run(scene()) == ["settled", "second"]


@given(st.lists(st.tuples(st.floats(0.01, 0.3), st.floats(0.0, 1.0)), max_size=60), st.integers(1, 8))
def test_the_limit_is_never_passed(requests: list[tuple[float, float]], workers: int):
    """Bound and share of it that is really spent, a request each, by several workers at once."""

    async def scene() -> float:
        budget = Budget(1.0, None)
        waiting = iter(requests)

        async def work():
            for bound, share in waiting:
                try:
                    await budget.reserve(bound)
                except BudgetSpentError:
                    return
                await asyncio.sleep(0)
                budget.settle(bound, bound * share)

        await asyncio.gather(*(work() for _ in range(workers)))
        return budget.cost

    assert asyncio.run(scene()) <= 1.0 + 1e-9
