"""The recurrence: every way of computing it equals the step-by-step definition."""

import pytest
import torch

from trilobit.model import LinearRecurrence
from trilobit.model.scan import linear_scan, scan_doubling, scan_steps


def inputs(length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(length)
    shape = (2, length, 5)
    return (
        torch.rand(shape, dtype=torch.float64),
        torch.randn(shape, dtype=torch.float64),
        torch.randn(2, 5, dtype=torch.float64),
    )


@pytest.mark.parametrize("length", [1, 2, 3, 16, 37])
@pytest.mark.parametrize("reverse", [False, True])
def test_doubling_equals_steps(length, reverse):
    a, b, start = inputs(length)
    start = torch.zeros_like(start) if reverse else start
    assert torch.allclose(scan_doubling(a, b, start, reverse), scan_steps(a, b, start, reverse), atol=1e-12)


def test_steps_are_the_definition():
    a, b, s = inputs(9)
    got = scan_steps(a, b, s)
    for t in range(9):
        s = a[:, t] * s + b[:, t]
        assert torch.allclose(got[:, t], s, atol=1e-14)


def test_gradients_equal_autograd_through_the_steps():
    a, b, start = (x.requires_grad_() for x in inputs(12))
    weight = torch.randn(2, 12, 5, dtype=torch.float64)
    got = torch.autograd.grad((linear_scan(a, b, start) * weight).sum(), (a, b, start))
    s, total = start, torch.zeros((), dtype=torch.float64)
    for t in range(12):
        s = a[:, t] * s + b[:, t]
        total = total + (s * weight[:, t]).sum()
    for x, y in zip(got, torch.autograd.grad(total, (a, b, start)), strict=True):
        assert torch.allclose(x, y, atol=1e-12)


def test_recurrence_module_goes_on_from_a_state():
    f, x, _ = inputs(20)
    module = LinearRecurrence()
    whole = module(x, f)
    first = module(x[:, :8], f[:, :8])
    assert torch.allclose(module(x[:, 8:], f[:, 8:], first[:, -1]), whole[:, 8:], atol=1e-14)


def test_long_memory_keeps_its_precision():
    f = torch.full((1, 4000, 1), 1 - 2.0**-13)
    x = torch.ones(1, 4000, 1)
    expected = 1 - (1 - 2.0**-13) ** 4000
    assert abs(float(LinearRecurrence()(x, f)[0, -1, 0]) - expected) < 1e-4 * expected
