"""The linear recurrence s_t = a_t * s_{t-1} + b_t over a whole sequence, in fp32 or fp64.

Three equal ways (tests/model/test_scan.py), chosen by :func:`linear_scan`:

- ``scan_steps``: one step after another, the definition; the fastest on a CPU, where a step is one vector operation.
- ``scan_doubling``: log2(T) passes, each combining a position with the one 2^k before it (Hillis and Steele 1986).
- ``_scan_triton``: one GPU program per 128 channels walks the sequence; reads a and b once and writes s once.

All of them also run backwards in time, s_t = a_{t+1} * s_{t+1} + b_t, which is the gradient's recurrence.
"""

import torch

try:  # comes with PyTorch's CUDA builds only
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["linear_scan", "scan_doubling", "scan_steps"]

_BLOCK = 128  # channels per GPU program: four warps of one channel a thread


def scan_steps(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """The definition, step by step.

    Args:
        a, b: [B, T, H], both fp32 or both fp64.
        start: [B, H], the state before the first step (with ``reverse``: a_T * s_T).
        reverse: run from the last position to the first, with a one position later.

    Returns:
        s, [B, T, H].
    """
    s = torch.empty_like(b)
    length = b.shape[1]
    state = start
    if reverse:
        for t in range(length - 1, -1, -1):
            state = b[:, t] + state if t == length - 1 else torch.addcmul(b[:, t], a[:, t + 1], state)
            s[:, t] = state
    else:
        for t in range(length):
            state = torch.addcmul(b[:, t], a[:, t], state)
            s[:, t] = state
    return s


def scan_doubling(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """As :func:`scan_steps`, in ceil(log2(T)) passes over the whole tensor."""
    if reverse:
        later = torch.cat([a[:, 1:], torch.ones_like(a[:, :1])], dim=1)
        return scan_doubling(later.flip(1), b.flip(1), start).flip(1)
    b = torch.cat([torch.addcmul(b[:, 0], a[:, 0], start).unsqueeze(1), b[:, 1:]], dim=1)
    distance = 1
    while distance < b.shape[1]:
        # (a, b) at t and t-d compose to (a_t * a_{t-d}, a_t * b_{t-d} + b_t); products of a only shrink: no overflow.
        b = torch.cat([b[:, :distance], torch.addcmul(b[:, distance:], a[:, distance:], b[:, :-distance])], dim=1)
        a = torch.cat([a[:, :distance], a[:, distance:] * a[:, :-distance]], dim=1)
        distance *= 2
    return b


if triton is not None:

    @triton.jit
    def _scan_kernel(a, b, start, s, T, H, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
        batch = tl.program_id(0).to(tl.int64)
        channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        valid = channel < H
        state = tl.load(start + batch * H + channel, mask=valid, other=0.0)
        base = batch * T * H + channel
        for k in range(T):
            if REVERSE:
                t = T - 1 - k
                factor = tl.load(a + base + (t + 1) * H, mask=valid & (k > 0), other=1.0)
            else:
                t = k
                factor = tl.load(a + base + t * H, mask=valid, other=0.0)
            state = factor * state + tl.load(b + base + t * H, mask=valid, other=0.0)
            tl.store(s + base + t * H, state, mask=valid)

    def _scan_triton(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, reverse: bool) -> torch.Tensor:
        s = torch.empty_like(b)
        batch, length, width = b.shape
        _scan_kernel[(batch, triton.cdiv(width, _BLOCK))](a, b, start, s, length, width, REVERSE=reverse, BLOCK=_BLOCK)
        return s


# A custom operator is opaque to torch.compile, which would otherwise unroll the loop over T.
@torch.library.custom_op("trilobit::linear_scan", mutates_args=())
def _linear_scan(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, reverse: bool) -> torch.Tensor:
    a, b, start = a.contiguous(), b.contiguous(), start.contiguous()
    if a.is_cuda and triton is not None:
        return _scan_triton(a, b, start, reverse)
    return (scan_doubling if a.is_cuda else scan_steps)(a, b, start, reverse)


@_linear_scan.register_fake
def _(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, reverse: bool) -> torch.Tensor:
    return torch.empty(b.shape, dtype=b.dtype, device=b.device)


def _setup_context(ctx, inputs, output) -> None:
    a, _, start, _ = inputs
    ctx.save_for_backward(a, start, output)


def _backward(ctx, grad):
    # d_t = grad_t + a_{t+1} d_{t+1} is the loss's gradient by s_t; then by b it is d, by a it is d * s_{t-1}.
    a, start, s = ctx.saved_tensors
    d = _linear_scan(a, grad.contiguous(), torch.zeros_like(start), True)
    before = torch.cat([start.unsqueeze(1), s[:, :-1]], dim=1)
    return d * before, d, a[:, 0] * d[:, 0], None


_linear_scan.register_autograd(_backward, setup_context=_setup_context)


def linear_scan(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
    """s_t = a_t * s_{t-1} + b_t, differentiable.

    Args:
        a, b: [B, T, H], both fp32 or both fp64.
        start: [B, H], the state before the first position; zero when absent.

    Returns:
        s, [B, T, H]; ``s[:, -1]`` is the state to go on from.
    """
    if start is None:
        start = torch.zeros_like(b[:, 0])
    return _linear_scan(a, b, start, False)
