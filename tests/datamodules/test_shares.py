"""An epoch of several data sets."""

from __future__ import annotations

import torch

from datamodules.shares import draw_shares


def test_shares_repeat_or_leave_out_samples_anew_each_time():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_shares([4, 10, 5], [8, 5, 0], generator) for _ in range(2)]
    for drawn in draws:
        counts = torch.bincount(drawn, minlength=19)
        assert counts[:4].tolist() == [2, 2, 2, 2]  # each twice
        assert counts[4:14].sum() == 5 and counts[4:14].max() == 1 and counts[14:].sum() == 0
    assert not torch.equal(*draws)


def test_more_than_once_but_not_twice():
    drawn = draw_shares([4], [6], torch.Generator().manual_seed(1))
    assert sorted(torch.bincount(drawn, minlength=4).tolist()) == [1, 1, 2, 2]
