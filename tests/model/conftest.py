"""Tests of the PyTorch side run on one thread each: beside other jobs, more threads only wait for one another."""

import pytest
import torch

from trilobit.model import fused, inference

torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and (not torch.cuda.is_available() or fused.kernels is None or inference.kernels is None):
        pytest.skip("needs a CUDA GPU and Triton: the kernels run on nothing else")
