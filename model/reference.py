"""The MatMul-free language model, in PyTorch: the reference that everything else is held to.

Sources: Zhu et al., "Scalable MatMul-free Language Modeling", arXiv 2406.02528, and the public implementation
ridgerchu/matmulfreellm (model type ``hgrn_bit``), whose outputs on random weights tests/model/golden holds. Where the
paper and that code differ (the output gate), this follows the code, under which the published weights run. BitLinear
is from Wang et al., arXiv 2310.11453, in its b1.58 form; the token mixer (MLGRU) descends from HGRN, arXiv 2311.04823.

Shapes: B sequences, T tokens, H hidden size, I intermediate size, L layers, V vocabulary.

Precision: training computes in fp32. In eval mode the vectors between the products are fp64 (the products themselves
are exact integers in fp32): an int8 activation that lies within 1e-7 of a tie is decided by rounding noise in fp32,
differently with another number of threads, and one flipped value spreads through everything after it (0.04 on a logit
of a golden case). In fp64 the result does not depend on the machine, and agrees with the golden outputs to 1e-6.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from trilobit.isa import trits
from trilobit.model.config import ModelConfig
from trilobit.model.scan import linear_scan

__all__ = ["GLU", "MLGRU", "BitLinear", "Block", "LinearRecurrence", "MatMulFreeLM", "ModelConfig", "RMSNorm", "set_product_precision"]

BITLINEAR_EPS = 1e-6  # of BitLinear's own norm, whatever the configuration's rms_norm_eps
SCALE_FLOOR = 1e-5  # smallest mean|W| and smallest max|y| that a scale is made from
# Adding the number below one half and truncating rounds half away from zero exactly; 0.5 itself errs just below a half.
_ALMOST_HALF = {torch.float32: 0.5 - 2.0**-25, torch.float64: 0.5 - 2.0**-54}


def round_half_away(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties away from zero, as the published kernels do (torch.round: ties to even)."""
    return torch.trunc(torch.add(x, x.sign(), alpha=_ALMOST_HALF[x.dtype]))


class _StraightThrough(torch.autograd.Function):
    """The quantised value forwards, the gradient to the unquantised one backwards."""

    @staticmethod
    def forward(ctx, value: Tensor, quantised: Tensor) -> Tensor:
        return quantised.view_as(quantised)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension; without gain, no weight."""

    def __init__(self, size: int, eps: float = 1e-6, gain: bool = True):
        super().__init__()
        self.size, self.eps = size, eps
        self.weight = nn.Parameter(torch.ones(size)) if gain else None

    def forward(self, x: Tensor) -> Tensor:  # [..., size] -> [..., size]
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return y if self.weight is None else y * self.weight

    def extra_repr(self) -> str:
        return f"{self.size}, eps={self.eps:g}"


class BitLinear(nn.Module):
    """Norm, int8 activations, ternary weights, one scale for each: the only product in the model.

    The training form holds fp32 weights and quantises them at every call, with straight-through gradients. The packed
    form (``pack()``) holds the trits, five rows to a byte (``trilobit.isa.trits``), and the fp32 scale mean|W|. Both
    give the same results: the integer product is exact in fp32 while |acc| <= 127 * in_features < 2^24.

    Args:
        in_features, out_features: columns and rows of the matrix.
        gain: whether the norm in front has a gain.

    ``product_dtype`` may be set to torch.bfloat16 to train faster: int8 values and trits are exact in it, but the
    product's result is rounded to its 8 bits. It has no effect in eval mode.
    """

    def __init__(self, in_features: int, out_features: int, gain: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.norm = RMSNorm(in_features, BITLINEAR_EPS, gain)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.normal_(self.weight, std=in_features**-0.5)
        self.product_dtype = torch.float32
        self.keep_unpacked = True  # a large model clears it: then each call unpacks anew and memory stays small
        self._unpacked: Tensor | None = None

    @property
    def is_packed(self) -> bool:
        return self.weight.dtype == torch.uint8

    @staticmethod
    def packed_shape(rows: int, cols: int) -> tuple[int, int]:
        """Shape of the uint8 tensor that holds [rows, cols] trits."""
        return -(-rows // trits.ROWS_PER_BYTE), cols

    def quantised_weight(self) -> tuple[Tensor, Tensor]:
        """Trits as floats, [out, in], and the scale mean|W|, []."""
        if self.is_packed:
            matrix = self._unpacked
            if matrix is None or matrix.device != self.weight.device:
                table = trits.unpack(self.weight.cpu().numpy(), self.out_features)
                matrix = torch.from_numpy(table).to(self.weight.device, torch.float32)
                self._unpacked = matrix if self.keep_unpacked else None
            return matrix, self.get_buffer("scale").reshape(())
        weight = self.weight
        scale = weight.detach().abs().mean(dtype=torch.float64).clamp(min=SCALE_FLOOR).float()
        value = weight * (1 / scale)
        return _StraightThrough.apply(value, value.detach().round().clamp(-1, 1)), scale

    @staticmethod
    def quantised_activations(y: Tensor) -> tuple[Tensor, Tensor]:
        """int8 values as floats, [..., in], and 127 / max|y| per vector, [..., 1]."""
        scale = 127 / y.detach().abs().amax(-1, keepdim=True).clamp(min=SCALE_FLOOR)
        value = y * scale
        return _StraightThrough.apply(value, round_half_away(value.detach()).clamp(-128, 127)), scale

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        q, activation_scale = self.quantised_activations(self.norm(x))
        matrix, weight_scale = self.quantised_weight()
        dtype = self.product_dtype if self.training else torch.float32
        product = nn.functional.linear(q.to(dtype), matrix.to(dtype)).to(x.dtype)
        return product * (weight_scale / activation_scale)

    @torch.no_grad()
    def packed_weight(self) -> tuple[Tensor, Tensor]:
        """uint8 [ceil(out / 5), in] and fp32 scale [1]."""
        if self.is_packed:
            return self.weight, self.get_buffer("scale")
        matrix, scale = self.quantised_weight()
        packed = trits.pack(matrix.to(torch.int8).cpu().numpy())
        return torch.from_numpy(packed).to(self.weight.device), scale.reshape(1)

    def set_packed(self, weight: Tensor, scale: Tensor) -> None:
        """Become the packed form with these buffers (shapes of :meth:`packed_weight`)."""
        if "weight" in self._parameters:
            del self.weight
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self._unpacked = None

    def pack(self) -> "BitLinear":
        """Turn this module into its packed form, in place; the fp32 weights are dropped."""
        if not self.is_packed:
            self.set_packed(*self.packed_weight())
        return self

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {'packed' if self.is_packed else 'training form'}"


def set_product_precision(model: nn.Module, precision: str) -> None:
    """Let every BitLinear of a model multiply in bfloat16 ("bf16") or in fp32 (any other) while it trains."""
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.product_dtype = torch.bfloat16 if precision == "bf16" else torch.float32


class LinearRecurrence(nn.Module):
    """s_t = f_t * s_{t-1} + (1 - f_t) * x_t per channel, in fp32 or fp64, s = 0 before the first token."""

    def forward(self, x: Tensor, f: Tensor, state: Tensor | None = None) -> Tensor:
        """x, f: [B, T, H]; state: [B, H] to go on from. Returns every s_t, [B, T, H]; the last is the new state."""
        return linear_scan(f, x * (1 - f), state)


class MLGRU(nn.Module):
    """The token mixer: a gated linear recurrence whose four projections are ternary."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        H = config.hidden_size
        self.i_proj = BitLinear(H, H)
        self.f_proj = BitLinear(H, H)
        self.g_proj = BitLinear(H, H)
        self.g_norm = RMSNorm(H, config.rms_norm_eps)
        self.recurrence = LinearRecurrence()
        self.o_proj = BitLinear(H, H)

    def forward(self, a: Tensor, lower_bound: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """a: [B, T, H]; lower_bound: [H] or None; state: [B, H] or None. Returns output and states, both [B, T, H]."""
        f = torch.sigmoid(self.f_proj(a))
        if lower_bound is not None:
            f = lower_bound + (1 - lower_bound) * f
        s = self.recurrence(nn.functional.silu(self.i_proj(a)), f, state)
        # The norm stands on the gate's projection, the swish on the state.
        return self.o_proj(self.g_norm(self.g_proj(a)) * nn.functional.silu(s)), s


class Geometry(Protocol):
    """What a channel mixer needs to know of a model's configuration."""

    @property
    def hidden_size(self) -> int: ...

    @property
    def mlp_size(self) -> int: ...


class GLU(nn.Module):
    """The channel mixer: a ternary gated linear unit; gate and value share one product."""

    def __init__(self, config: Geometry):
        super().__init__()
        self.gate_proj = BitLinear(config.hidden_size, 2 * config.mlp_size)
        self.down_proj = BitLinear(config.mlp_size, config.hidden_size)

    def forward(self, m: Tensor) -> Tensor:  # [B, T, H] -> [B, T, H]
        gate, y = self.gate_proj(m).chunk(2, dim=-1)
        return self.down_proj(nn.functional.silu(gate) * y)


class Block(nn.Module):
    """One layer: token mixer and channel mixer, each behind a norm and beside a residual."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0):
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = MLGRU(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GLU(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, lower_bound: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :meth:`MLGRU.forward`."""
        mixed, s = self.attn(self.attn_norm(h), lower_bound, state)
        h = h + self.dropout(mixed)
        return h + self.dropout(self.mlp(self.mlp_norm(h))), s


class Backbone(nn.Module):
    """Embedding, layers and final norm (the ``model.`` part of the published keys)."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0, embedding_dropout: float = 0.0):
        super().__init__()
        L, H = config.num_hidden_layers, config.hidden_size
        self.embeddings = nn.Embedding(config.vocab_size, H)
        self.dropout = nn.Dropout(embedding_dropout)
        self.lower_bounds = nn.Parameter(torch.zeros(L, H)) if config.use_lower_bound else None
        self.layers = nn.ModuleList(Block(config, dropout) for _ in range(L))
        self.norm = RMSNorm(H, config.rms_norm_eps)

    @property
    def compute_dtype(self) -> torch.dtype:
        """Of the vectors between products; the module docstring says why."""
        return torch.float32 if self.training else torch.float64

    def lower_bound_table(self) -> list[Tensor | None]:
        """A lower bound of the forget gate per layer, each [H]: rises with depth from 0, so none for the first."""
        if self.lower_bounds is None:
            return [None] * len(self.layers)
        share = torch.softmax(self.lower_bounds, dim=0)
        table = torch.cumsum(share, dim=0) - share[0]
        return [None] + [table[n] for n in range(1, len(self.layers))]

    def forward(self, input_ids: Tensor, state: Tensor | None) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """input_ids: [B, T]; state: [L, B, H] or None.

        Returns the normed output [B, T, H]; L+1 hidden states [B, T, H], the last one normed; L states s [B, T, H].
        """
        h = self.dropout(self.embeddings(input_ids).to(self.compute_dtype))
        hidden, states = [h], []
        for n, (layer, bound) in enumerate(zip(self.layers, self.lower_bound_table(), strict=True)):
            h, s = layer(h, bound, None if state is None else state[n])
            hidden.append(h)
            states.append(s)
        hidden[-1] = h = self.norm(h)
        return h, hidden, states


class MatMulFreeLM(nn.Module):
    """The language model; calling it with ``input_ids`` [B, T] gives logits [B, T, V].

    Args:
        config: the geometry.
        dropout, embedding_dropout: on both residual branches and on the embedding, in training only.
    """

    is_recurrent = True  # a state is carried from one call to the next

    def __init__(self, config: ModelConfig, dropout: float = 0.0, embedding_dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.model = Backbone(config, dropout, embedding_dropout)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        nn.init.normal_(self.model.embeddings.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        return self.lm_head(self.model(input_ids, None)[0]).float()

    @property
    def layers(self) -> nn.ModuleList:
        """The L blocks."""
        return self.model.layers

    def set_precision(self, precision: str) -> None:
        """Of the products in training: "bf16", or fp32 for any other name."""
        set_product_precision(self, precision)

    def init_state(self, batch: int) -> Tensor:
        """The state before the first token: zeros, [L, B, H]."""
        shape = (self.config.num_hidden_layers, batch, self.config.hidden_size)
        return torch.zeros(shape, dtype=self.model.compute_dtype, device=self.model.embeddings.weight.device)

    def step(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One token for each sequence: ids [B], state [L, B, H] to logits [B, V] and the new state."""
        logits, _, state = self.forward_all(ids.unsqueeze(1), state)
        return logits[:, 0], state

    def forward_all(self, input_ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """Everything: logits [B, T, V], L+1 hidden states [B, T, H], the state after the last token [L, B, H]."""
        h, hidden, states = self.model(input_ids, state)
        return self.lm_head(h).float(), hidden, torch.stack([s[:, -1] for s in states])

    def pack(self) -> "MatMulFreeLM":
        """Turn every BitLinear into its packed form, in place."""
        for module in self.modules():
            if isinstance(module, BitLinear):
                module.pack()
        return self
