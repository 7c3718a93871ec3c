"""Generating without the accelerator: a MatMul-free LM on packed ternary weights, on a GPU or a CPU, token by token.

The weights stay packed at 1.6 bits each, as the checkpoint and the accelerator have them, so a token reads a tenth of
the bytes of half precision. On a GPU a layer is eight Triton kernels (``inference_kernels.py``); on a CPU the products
are the compiled kernel of ``trilobit.sim.native``, on all cores. The products are exact integers, everything between
them is fp32: the logits differ from the fp64 reference's where an activation lies beside a tie of its rounding.

>>> model = PackedLM.from_checkpoint("model/pretrained/tales", "cuda")
>>> state = model.init_state(1)
>>> logits, state = model.step(torch.tensor([1], device="cuda"), state)
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trilobit.errors import ModelError
from trilobit.isa import trits
from trilobit.model.checkpoint import load_pretrained
from trilobit.model.config import ModelConfig
from trilobit.model.reference import BITLINEAR_EPS, SCALE_FLOOR, BitLinear, MatMulFreeLM, round_half_away
from trilobit.sim.native import Product, ternary_product

kernels: ModuleType | None = None
try:  # Triton comes with PyTorch's CUDA builds only
    from trilobit.model import inference_kernels

    kernels = inference_kernels
except ImportError:
    pass

__all__ = ["GraphedStep", "Layer", "Matrix", "Native", "PackedLM", "Twin"]

_SPLIT = 1 << 18  # bytes of weights from which a product is worth a second thread
Prepared = tuple[Tensor, Tensor, Tensor]  # int8 values [B, S, K], 127 / max|y| [B, S], the values' sum [B, S] of int32


@dataclass
class Matrix:
    """S BitLinears of one shape that read the same vector.

    Attributes:
        packed: [S, ceil(rows / 5), K] uint8.
        scale: mean |W|, [S] fp32.
        gain: of the norms in front, [S, K] fp32.
        rows: of each.
    """

    packed: Tensor
    scale: Tensor
    gain: Tensor
    rows: int


@dataclass
class Layer:
    """One layer: i, f and g stacked, o, gate with value, down; its norms' gains and its lower bound, each [H] fp32."""

    attn_norm: Tensor
    ifg: Matrix
    lower: Tensor
    g_norm: Tensor
    o: Matrix
    mlp_norm: Tensor
    gate: Matrix
    down: Matrix


class Twin:
    """What the kernels compute, in PyTorch on any device: the definition they are tested against."""

    @classmethod
    def prepare(cls, h: Tensor, outer: Tensor, eps: float, gains: Tensor) -> Prepared:
        """The block's norm, then each BitLinear's own norm and quantisation.

        Args:
            h: [B, K] fp32.
            outer, eps: gain [K] and eps of the block's norm.
            gains: [S, K], of the BitLinears.
        """
        return cls._quantise(_norm(h, outer, eps)[:, None], gains)

    @classmethod
    def mix(cls, ifg: Tensor, state: Tensor, lower: Tensor, g_gain: Tensor, eps: float, o_gain: Tensor) -> Prepared:
        """The recurrence, the output gate, and what o_proj does before its product; the state [B, H] is updated in place.

        Args:
            ifg: [B, 3 H], the three products.
            lower: [H], the forget gate's lower bound.
            g_gain, eps: of the gate's norm.
            o_gain: [1, H].
        """
        i, f, g = ifg.chunk(3, dim=1)
        f = lower + (1 - lower) * torch.sigmoid(f)
        state.copy_(f * state + (1 - f) * nn.functional.silu(i))
        return cls._quantise((_norm(g, g_gain, eps) * nn.functional.silu(state))[:, None], o_gain)

    @classmethod
    def glu(cls, gate: Tensor, gain: Tensor) -> Prepared:
        """silu(gate) * value of [B, 2 I], and what down_proj (gain [1, I]) does before its product."""
        x, y = gate.chunk(2, dim=1)
        return cls._quantise((nn.functional.silu(x) * y)[:, None], gain)

    @staticmethod
    def product(packed: Tensor, weight_scales: Tensor, prepared: Prepared, rows: int, residual: Tensor | None = None) -> Tensor:
        """S products of ``rows`` rows for each of B vectors: fp32 [B, S * rows], plus the residual [B, rows] where S is 1."""
        q, scale, _ = prepared
        bytes_ = packed.cpu().numpy()
        matrices = torch.stack([torch.from_numpy(trits.unpack(matrix, rows)) for matrix in bytes_]).to(q.device, torch.float32)
        out = torch.einsum("srk,bsk->bsr", matrices, q.float()) * (weight_scales / scale)[:, :, None]
        return out.flatten(1) if residual is None else residual + out.flatten(1)

    @staticmethod
    def _quantise(x: Tensor, gains: Tensor) -> Prepared:
        y = _norm(x, gains, BITLINEAR_EPS)
        scale = 127 / y.abs().amax(-1).clamp(min=SCALE_FLOOR)
        values = round_half_away(y * scale[..., None]).clamp(-127, 127)
        return values.to(torch.int8), scale, values.sum(-1).to(torch.int32)


class Native(Twin):
    """The twin with the products on packed weights, by the compiled kernel (without a compiler: the twin's own)."""

    @staticmethod
    def product(packed: Tensor, weight_scales: Tensor, prepared: Prepared, rows: int, residual: Tensor | None = None) -> Tensor:
        """As :meth:`Twin.product`."""
        kernel = ternary_product()
        if kernel is None:
            return Twin.product(packed, weight_scales, prepared, rows, residual)
        q, scale, _ = prepared
        weights, values = packed.numpy(), q.numpy()
        sums = np.empty((len(values), len(weights), weights.shape[1] * trits.ROWS_PER_BYTE), dtype=np.int32)
        for b, s in np.ndindex(*sums.shape[:2]):
            for start, part in _side_by_side(kernel, weights[s], values[b, s]):
                sums[b, s, start : start + len(part)] = part
        out = torch.from_numpy(sums[:, :, :rows]) * (weight_scales / scale)[:, :, None]
        return out.flatten(1) if residual is None else residual + out.flatten(1)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "trilobit-inference")


def _side_by_side(kernel: Product, weights: np.ndarray, values: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    """A product in pieces of its groups, on as many threads as are worth it: (first row, sums) of each."""
    groups = len(weights)
    pieces = max(1, min(len(os.sched_getaffinity(0)), weights.size // _SPLIT))

    def product(piece: slice) -> np.ndarray:
        return kernel(weights[piece], values)

    edges = [groups * n // pieces for n in range(pieces + 1)]
    slices = [slice(start, stop) for start, stop in pairwise(edges)]
    parts = _pool().map(product, slices) if pieces > 1 else map(product, slices)
    return zip((piece.start * trits.ROWS_PER_BYTE for piece in slices), parts, strict=True)


def _norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


def _engine(device: torch.device) -> Any:
    if device.type == "cuda":
        if kernels is None:
            raise ModelError("inference on a GPU needs Triton, which comes with PyTorch's CUDA builds; install one, or use the device cpu")
        return kernels
    return Native


class PackedLM:
    """A MatMul-free LM to generate with; not differentiable.

    Args:
        config: its geometry.
        embedding: [V, H], of any float type.
        layers, norm, head: the rest, all on one device, a CPU or a CUDA GPU.

    Raises:
        ModelError: a GPU and no Triton, or widths that are no multiples of four on a GPU.
    """

    def __init__(self, config: ModelConfig, embedding: Tensor, layers: list[Layer], norm: Tensor, head: Matrix):
        self.config, self.embedding, self.layers, self.norm, self.head = config, embedding, layers, norm, head
        self.engine = _engine(embedding.device)
        if self.device.type == "cuda" and (config.hidden_size % 4 or config.mlp_size % 4):
            got = f"{config.hidden_size} and {config.mlp_size}"
            raise ModelError(
                f"inference on a GPU: expected hidden and intermediate sizes that are multiples of 4, got {got}; use the device cpu"
            )

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.embedding.device

    @classmethod
    def from_model(cls, model: MatMulFreeLM, device: str | torch.device = "cpu") -> "PackedLM":
        """From the reference, in either form; the reference is left as it is."""

        def matrix(*modules: BitLinear) -> Matrix:
            pairs = [module.packed_weight() for module in modules]
            packed = torch.stack([weight for weight, _ in pairs]).to(device)
            scale = torch.cat([scale for _, scale in pairs]).to(device)
            gains = [torch.ones(m.in_features) if m.norm.weight is None else m.norm.weight.detach() for m in modules]
            return Matrix(packed, scale, torch.stack(gains).to(device, torch.float32).contiguous(), modules[0].out_features)

        def gain(norm: Any) -> Tensor:
            return norm.weight.detach().to(device, torch.float32)

        layers = []
        block: Any
        for block, bound in zip(model.layers, model.model.lower_bound_table(), strict=True):
            attn: Any = block.attn
            mlp: Any = block.mlp
            lower = torch.zeros(model.config.hidden_size) if bound is None else bound.detach()
            layers.append(
                Layer(
                    attn_norm=gain(block.attn_norm),
                    ifg=matrix(attn.i_proj, attn.f_proj, attn.g_proj),
                    lower=lower.to(device, torch.float32).contiguous(),
                    g_norm=gain(attn.g_norm),
                    o=matrix(attn.o_proj),
                    mlp_norm=gain(block.mlp_norm),
                    gate=matrix(mlp.gate_proj),
                    down=matrix(mlp.down_proj),
                )
            )
        return cls(model.config, model.model.embeddings.weight.detach().to(device), layers, gain(model.model.norm), matrix(model.lm_head))

    @classmethod
    def from_checkpoint(cls, folder: str | Path, device: str | torch.device = "cpu") -> "PackedLM":
        """From a folder in the packed or the published layout; errors as :func:`.load_pretrained`."""
        return cls.from_model(load_pretrained(folder, form="packed"), device)

    @classmethod
    def random(cls, config: ModelConfig, device: str | torch.device = "cpu", seed: int = 1) -> "PackedLM":
        """With random trits, a third of each, made on the device; outputs of each product have a variance near one."""
        generator = torch.Generator(device).manual_seed(seed)
        H, I = config.hidden_size, config.mlp_size

        def matrix(count: int, rows: int, columns: int) -> Matrix:
            shape = (count, -(-rows // trits.ROWS_PER_BYTE), columns)
            number = torch.randint(243, shape, dtype=torch.int32, device=device, generator=generator)
            packed = number.mul_(256).add_(242).div_(243, rounding_mode="floor").to(torch.uint8)
            scale = torch.full((count,), columns**-0.5, device=device)
            return Matrix(packed, scale, 0.5 + torch.rand(count, columns, device=device, generator=generator), rows)

        def ones() -> Tensor:
            return torch.ones(H, device=device)

        layers = []
        for n in range(config.num_hidden_layers):
            lower = torch.full((H,), n / config.num_hidden_layers, device=device)
            layers.append(Layer(ones(), matrix(3, H, H), lower, ones(), matrix(1, H, H), ones(), matrix(1, 2 * I, H), matrix(1, H, I)))
        embedding = torch.empty(config.vocab_size, H, dtype=torch.float16, device=device).normal_(generator=generator)
        return cls(config, embedding, layers, ones(), matrix(1, config.vocab_size, H))

    def to(self, device: str | torch.device) -> "PackedLM":
        """A copy on another device."""

        def moved(part: Any) -> Any:
            if isinstance(part, Tensor):
                return part.to(device)
            return type(part)(*(moved(getattr(part, f.name)) for f in fields(part))) if isinstance(part, Matrix | Layer) else part

        return PackedLM(self.config, moved(self.embedding), [moved(layer) for layer in self.layers], moved(self.norm), moved(self.head))

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""

        def size(part: Any) -> int:
            if isinstance(part, Tensor):
                return part.numel() * part.element_size()
            return sum(size(getattr(part, f.name)) for f in fields(part)) if isinstance(part, Matrix | Layer) else 0

        return sum(map(size, [self.embedding, *self.layers, self.norm, self.head]))

    def init_state(self, batch: int) -> Tensor:
        """The state before the first token: zeros, [L, B, H] fp32."""
        return torch.zeros(self.config.num_hidden_layers, batch, self.config.hidden_size, device=self.device)

    @torch.no_grad()
    def step(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One token for each sequence: ids [B], state [L, B, H] (updated in place) to logits [B, V] fp32 and the state."""
        if self.device.type == "cuda":
            return self._step(ids, state), state
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the vectors are short, and PyTorch's waiting threads would take the products' cores
        try:
            return self._step(ids, state), state
        finally:
            torch.set_num_threads(threads)

    def _step(self, ids: Tensor, state: Tensor) -> Tensor:
        e, eps = self.engine, self.config.rms_norm_eps
        h = nn.functional.embedding(ids, self.embedding).float()
        for layer, s in zip(self.layers, state, strict=True):
            ifg = _apply(e, layer.ifg, e.prepare(h, layer.attn_norm, eps, layer.ifg.gain))
            h = _apply(e, layer.o, e.mix(ifg, s, layer.lower, layer.g_norm, eps, layer.o.gain), h)
            gate = _apply(e, layer.gate, e.prepare(h, layer.mlp_norm, eps, layer.gate.gain))
            h = _apply(e, layer.down, e.glu(gate, layer.down.gain), h)
        return _apply(e, self.head, e.prepare(h, self.norm, eps, self.head.gain))

    def generate(self, prompt: list[int], count: int) -> list[int]:
        """The ``count`` likeliest tokens after a prompt of at least one token, one after the other."""
        if not prompt:
            raise ModelError("generate: expected a prompt of at least one token, got none; begin with the bos_token_id")
        step: Any = GraphedStep(self, 1) if self.device.type == "cuda" else None
        state = self.init_state(1)
        tokens = list(prompt)
        for n in range(len(prompt) + count - 1):
            ids = torch.tensor(tokens[n : n + 1], device=self.device)
            logits = step(ids) if step else self.step(ids, state)[0]
            if n >= len(prompt) - 1:
                tokens.append(int(logits.argmax()))
        return tokens[len(prompt) :]


def _apply(engine: Any, matrix: Matrix, prepared: Prepared, residual: Tensor | None = None) -> Tensor:
    return engine.product(matrix.packed, matrix.scale, prepared, matrix.rows, residual)


class GraphedStep:
    """The step of a model on a GPU as one CUDA graph: no launches from the host between its kernels.

    Args:
        model: a :class:`PackedLM`, or anything with its ``device``, ``init_state`` and ``step`` (state updated in place).
        batch: sequences.

    ``ids`` [B], ``state`` and ``logits`` [B, V] are the graph's own tensors; ``state`` may be zeroed to begin anew.
    """

    def __init__(self, model: Any, batch: int):
        self.ids = torch.zeros(batch, dtype=torch.int64, device=model.device)
        self.state = model.init_state(batch)
        stream = torch.cuda.Stream(model.device)
        stream.wait_stream(torch.cuda.current_stream(model.device))
        with torch.cuda.stream(stream), torch.no_grad():
            model.step(self.ids, self.state)  # kernels are compiled before the capture
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=stream):
                self.logits = model.step(self.ids, self.state)[0]
        torch.cuda.current_stream(model.device).wait_stream(stream)
        self.state.zero_()

    def __call__(self, ids: Tensor) -> Tensor:
        """ids [B] to logits [B, V], which the next call overwrites."""
        self.ids.copy_(ids)
        self._graph.replay()
        return self.logits
