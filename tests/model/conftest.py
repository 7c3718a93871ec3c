"""Tests of the PyTorch side run on one thread each: beside other jobs, more threads only wait for one another."""

import torch

torch.set_num_threads(1)
