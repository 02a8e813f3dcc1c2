#!/usr/bin/env bash
# A NaN in the queries of torch's scaled_dot_product_attention on the CPU.
# Guess:    NaN in, NaN out, whatever the length.
# Happens:  up to a handful of tokens the fused kernel answers with zeros, since its safe softmax takes a row without a
#           largest value for a masked one; from some length on (the processor's vector width) the same NaN comes out
#           as NaN, and the plain kernel (MATH) always gives it. A model that is broken looks sound on a short prompt.
# Follows:  a check for NaN on a toy prompt proves nothing: look at the logits of a long one. dig looks at the scores of
#           every ranking (dig/evaluation/harness.py) and at every training loss (callbacks/guards.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

seen = {}
for tokens in (1, 2, 4, 64):
    queries = torch.full((1, 1, tokens, 8), float("nan"))
    keys = torch.ones(1, 1, tokens, 8)
    fused = F.scaled_dot_product_attention(queries, keys, keys)
    with sdpa_kernel(SDPBackend.MATH):
        plain = F.scaled_dot_product_attention(queries, keys, keys)
    seen[tokens] = (bool(fused.isnan().all()), bool((fused == 0).all()), bool(plain.isnan().all()))
    print(f"{tokens:2} tokens: fused kernel {'NaN' if seen[tokens][0] else 'zeros' if seen[tokens][1] else '?'}, "
          f"plain kernel {'NaN' if seen[tokens][2] else '?'}")
assert all(seen[tokens] == (False, True, True) for tokens in (1, 2, 4)), "changed: short rows"
assert seen[64] == (True, False, True), "changed: long rows"
PYTHON_CODE
