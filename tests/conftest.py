"""What all tests share: one thread, so that numbers repeat and two cores go to two test processes."""

import torch

torch.set_num_threads(1)
