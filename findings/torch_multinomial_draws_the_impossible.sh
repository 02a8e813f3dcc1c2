#!/usr/bin/env bash
# torch.multinomial without replacement where fewer outcomes are possible than are drawn, as at a trie's node with two
# children and a group of three rollouts.
# Guess:    RuntimeError: there are not enough outcomes with a probability.
# Happens:  it draws outcomes whose probability is exactly zero, in silence: on the CPU the third draw of
#           [.5, .5, 0, 0] is always an impossible one.
# Follows:  a group sampled without replacement must be capped at the number of legal items. dig samples by keyed noise
#           per node and never asks for more than there are (dig/generation/sampling.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import torch

generator = torch.Generator().manual_seed(0)
probabilities = torch.tensor([0.5, 0.5, 0.0, 0.0])
impossible = 0
for _ in range(200):
    drawn = torch.multinomial(probabilities, 3, replacement=False, generator=generator)
    impossible += int((probabilities[drawn] == 0).sum())
    assert len(set(drawn.tolist())) == 3, "changed: an outcome was drawn twice"
print(f"200 draws of 3 out of [.5, .5, 0, 0]: {impossible} outcomes of probability 0, no error")
assert impossible == 200, "changed: outcomes without a probability are no longer drawn"
PYTHON_CODE
