#!/usr/bin/env bash
# safetensors: weights saved into a folder that a group shares, beside config.json; and saved again over a shared file.
# Guess:    a file gets the mode that the umask gives every new file (0644 under 022), and one that is there keeps its
#           own.
# Happens:  each save_file writes 0600, whatever the umask, and over a file of 0664 as well: the name is given to a new
#           file. config.json and tokenizer.json beside it stay readable, so a colleague's from_pretrained finds the
#           model and fails at its weights. transformers, peft, diffusers and open_clip save through it.
# Follows:  chmod after saving. dig gives what it has built the mode that the umask means.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "safetensors==0.8.0" numpy
"$work/venv/bin/python" - <<'PYTHON_CODE'
import os
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

os.umask(0o022)
folder = Path(tempfile.mkdtemp())
(folder / "config.json").write_text("{}")
torch.save({"weight": torch.zeros(2)}, folder / "pytorch_model.bin")
safetensors.torch.save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
safetensors.numpy.save_file({"weight": np.zeros(2)}, folder / "arrays.safetensors")
shared = folder / "shared.safetensors"
shared.write_bytes(b"")
shared.chmod(0o664)  # a colleague may read and replace it
safetensors.torch.save_file({"weight": torch.zeros(2)}, shared)
modes = {path.name: oct(path.stat().st_mode & 0o777) for path in sorted(folder.iterdir())}
print("under umask 022:", modes)
assert modes["config.json"] == modes["pytorch_model.bin"] == "0o644"
assert {modes[name] for name in modes if name.endswith(".safetensors")} == {"0o600"}, "changed: safetensors' modes"
PYTHON_CODE
