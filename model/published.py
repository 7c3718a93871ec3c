"""The published layout as data: which tensors a MatMul-free LM has, and its graph, from the configuration alone.

``trilobit.model.export`` finds the same graph by tracing a PyTorch module; this one needs neither torch nor weights, so
a checkpoint of any size is imported, and a geometry compiled, without a model in memory. A test holds the two equal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trilobit.model.config import ModelConfig
from trilobit.model.graph import Graph, Node

__all__ = ["BITLINEAR_EPS", "GEOMETRIES", "TensorSpec", "graph_of", "published_config", "tensor_specs"]

BITLINEAR_EPS = 1e-6  # of BitLinear's own norm, whatever the configuration's rms_norm_eps

# The published models: hidden size, layers (vocabulary 32,000; the rest are the configuration's defaults).
GEOMETRIES = {"370m": (1024, 24), "1.3b": (2048, 24), "2.7b": (2560, 32)}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the published state dict.

    Attributes:
        name: its key.
        shape: [rows, columns] or [length].
        kind: "embedding", "lower_bounds", "gain", or for a ternary matrix its place: "i_proj", "f_proj", "g_proj",
            "o_proj", "gate_proj", "down_proj", "lm_head".
        layer: number of its layer, or None.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    layer: int | None = None

    @property
    def ternary(self) -> bool:
        """Whether it is a BitLinear's weight."""
        return self.kind.endswith("_proj") or self.kind == "lm_head"

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size


def published_config(name: str) -> ModelConfig:
    """The configuration of a published model: a key of :data:`GEOMETRIES`."""
    hidden, layers = GEOMETRIES[name]
    return ModelConfig(vocab_size=32000, hidden_size=hidden, num_hidden_layers=layers)


def tensor_specs(config: ModelConfig) -> list[TensorSpec]:
    """Every tensor of the published layout, in the order of the layers."""
    return list(_specs(config))


def _specs(config: ModelConfig) -> Iterator[TensorSpec]:
    H, I, V, L = config.hidden_size, config.mlp_size, config.vocab_size, config.num_hidden_layers

    def bitlinear(path: str, kind: str, rows: int, cols: int, layer: int | None) -> Iterator[TensorSpec]:
        yield TensorSpec(f"{path}.norm.weight", (cols,), "gain", layer)
        yield TensorSpec(f"{path}.weight", (rows, cols), kind, layer)

    yield TensorSpec("model.embeddings.weight", (V, H), "embedding")
    if config.use_lower_bound:
        yield TensorSpec("model.lower_bounds", (L, H), "lower_bounds")
    for n in range(L):
        path = f"model.layers.{n}"
        yield TensorSpec(f"{path}.attn_norm.weight", (H,), "gain", n)
        for kind in ("i_proj", "f_proj", "g_proj"):
            yield from bitlinear(f"{path}.attn.{kind}", kind, H, H, n)
        yield TensorSpec(f"{path}.attn.g_norm.weight", (H,), "gain", n)
        yield from bitlinear(f"{path}.attn.o_proj", "o_proj", H, H, n)
        yield TensorSpec(f"{path}.mlp_norm.weight", (H,), "gain", n)
        yield from bitlinear(f"{path}.mlp.gate_proj", "gate_proj", 2 * I, H, n)
        yield from bitlinear(f"{path}.mlp.down_proj", "down_proj", H, I, n)
    yield TensorSpec("model.norm.weight", (H,), "gain")
    yield from bitlinear("lm_head", "lm_head", V, H, None)


def graph_of(config: ModelConfig, scale: Callable[[str], float]) -> Graph:
    """The graph of a model, without ranges.

    Its constants are the forget gate's lower bounds: ``constant.lower_bound_N`` (LB of layer N, for N > 0) and
    ``constant.lower_bound_rest_N`` (1 - LB), each fp32 [H].

    Args:
        config: the model's.
        scale: mean |W| of the ternary matrix with that key.
    """
    builder = _Builder(config, scale)
    return Graph(
        config=config.to_dict(), vocab_size=config.vocab_size, bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id, nodes=builder.run(), outputs=["lm_head"],
    )  # fmt: skip


class _Builder:
    """Nodes in the order and with the names that tracing gives, as far as they come from modules."""

    def __init__(self, config: ModelConfig, scale: Callable[[str], float]):
        self.config, self.scale = config, scale
        self.nodes: list[Node] = []

    def emit(self, op: str, name: str, inputs: list[str], module: str, length: int, **attrs: Any) -> str:
        self.nodes.append(Node(name=name, op=op, inputs=inputs, attrs=attrs, module=module, shape=[length]))
        return name

    def norm(self, path: str, x: str) -> str:
        attrs = {"weight": f"{path}.weight", "eps": self.config.rms_norm_eps}
        return self.emit("rmsnorm", path.replace(".", "_"), [x], path, self.config.hidden_size, **attrs)

    def bitlinear(self, path: str, x: str, rows: int, cols: int) -> str:
        weight = f"{path}.weight"
        return self.emit(
            "bitlinear", path.replace(".", "_"), [x], path, rows, weight=weight, scale=self.scale(weight), rows=rows,
            cols=cols, norm_weight=f"{path}.norm.weight", eps=BITLINEAR_EPS,
        )  # fmt: skip

    def run(self) -> list[Node]:
        config, H = self.config, self.config.hidden_size
        self.emit("token", "input_ids", [], "", 1)
        h = self.emit("embedding", "model_embeddings", ["input_ids"], "model.embeddings", H, weight="model.embeddings.weight")
        for n in range(config.num_hidden_layers):
            h = self.layer(n, h)
        self.bitlinear("lm_head", self.norm("model.norm", h), config.vocab_size, H)
        return self.nodes

    def layer(self, n: int, h: str) -> str:
        path, H, I = f"model.layers.{n}", self.config.hidden_size, self.config.mlp_size
        attn, mlp = f"{path}.attn", f"{path}.mlp"

        def vector(op: str, name: str, inputs: list[str], module: str = attn, length: int = H, **attrs: Any) -> str:
            return self.emit(op, f"layer{n}_{name}", inputs, module, length, **attrs)

        a = self.norm(f"{path}.attn_norm", h)
        f = vector("sigmoid", "forget", [self.bitlinear(f"{attn}.f_proj", a, H, H)])
        if self.config.use_lower_bound and n:
            rest = vector("constant", "lower_bound_rest", [], tensor=f"constant.lower_bound_rest_{n}")
            scaled = vector("mul", "forget_scaled", [rest, f])
            bound = vector("constant", "lower_bound", [], tensor=f"constant.lower_bound_{n}")
            f = vector("add", "forget_bounded", [bound, scaled])
        i = vector("silu", "input", [self.bitlinear(f"{attn}.i_proj", a, H, H)])
        s = self.emit("recurrence", f"{attn}.recurrence".replace(".", "_"), [i, f], f"{attn}.recurrence", H)
        g = self.norm(f"{attn}.g_norm", self.bitlinear(f"{attn}.g_proj", a, H, H))
        o = vector("mul", "output_gated", [g, vector("silu", "state_swish", [s])])
        r = vector("add", "residual_attn", [h, self.bitlinear(f"{attn}.o_proj", o, H, H)], path)
        m = self.norm(f"{path}.mlp_norm", r)
        both = self.bitlinear(f"{mlp}.gate_proj", m, 2 * I, H)
        gate = vector("slice", "gate", [both], mlp, I, start=0, stop=I)
        y = vector("slice", "value", [both], mlp, I, start=I, stop=2 * I)
        u = vector("mul", "gated", [vector("silu", "gate_silu", [gate], mlp, I), y], mlp, I)
        return vector("add", "residual_mlp", [r, self.bitlinear(f"{mlp}.down_proj", u, H, I)], path)
