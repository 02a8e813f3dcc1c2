#!/usr/bin/env bash
# vector-quantize-pytorch with kmeans_init=True: codes asked for in evaluation mode before any training step.
# Guess:    evaluation changes nothing; the codes come from the random codebook, or an error says that it is not ready.
# Happens:  the first forward pass fits the codebook by k-means, whatever the mode, on whatever it is given. A sanity
#           validation (Lightning runs two batches of it before training) fits the codebook to validation items.
# Follows:  initialise on training vectors by name, before anything is validated. dig does (dig/quantization/residual.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "vector-quantize-pytorch==1.32.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import torch
from vector_quantize_pytorch import ResidualVQ, VectorQuantize

torch.manual_seed(0)
validation = torch.randn(1, 200, 8) + 5
single = VectorQuantize(dim=8, codebook_size=16, kmeans_init=True).eval()
before = single.codebook.clone()
with torch.no_grad():
    single(validation)
moved = not torch.equal(before, single.codebook)
print("evaluation mode moved the codebook:", moved, "| mean of its vectors:", round(single.codebook.mean().item(), 1))
several = ResidualVQ(dim=8, num_quantizers=2, codebook_size=16, kmeans_init=True).eval()
before = several.codebooks.clone()
with torch.no_grad():
    several(validation)
print("and of a residual quantizer:", not torch.equal(before, several.codebooks))
assert moved and abs(single.codebook.mean().item() - 5) < 0.5, "changed: evaluation leaves the codebook alone"
assert not torch.equal(before, several.codebooks), "changed: evaluation leaves the residual codebooks alone"
PYTHON_CODE
