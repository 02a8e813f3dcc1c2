"""What all tests share: one thread, so that numbers repeat and two cores go to two processes; the data's folder."""

import os
from pathlib import Path

import torch

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # and so do the processes that tests start
if "DIG_DATA_ROOT" in os.environ:  # some tests change the folder, or link to the data
    os.environ["DIG_DATA_ROOT"] = str(Path(os.environ["DIG_DATA_ROOT"]).absolute())
