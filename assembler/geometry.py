"""Programs and memory images of a geometry alone: the standard MatMul-free LM without a model.

:func:`compile_geometry` sends the graph of the published architecture (MLGRU, GLU, final norm, ternary lm_head) through the
compiler's own passes. Its tensors don't exist: gains and constants are drawn where a pass asks for them, embeddings and
ternary weights only when the image is written. So a program of any size takes about a second (for cycle models), and its
image no more memory than itself (for RTL runs at full size):

    compiled = compile_geometry("1.3b", "axi512")
    compiled.program                       # instructions; compiled.layout.stream: address, kind, rows, columns of each segment
    memory = random_memory(compiled)       # the window with random weights, ready for a simulator

A trained model of the geometry has the same instructions on the same registers with the same segments; shifts and scales
differ, and a constant (the lower bound of the forget gate) may take 32 bits in memory instead of 16.

Random weights are uniform trits with scales that give every product an rms near one, gains lie between 0.5 and 1.5,
embeddings within +-1: vectors stay within their ranges (no saturation) and none is zero. Everything is drawn from the seed
and the tensor's name, so that the same seed gives the same bytes.
"""

import hashlib
import math
from pathlib import Path

import numpy as np

from trilobit.assembler.compiler.pipeline import Compiled, run_passes
from trilobit.assembler.compiler.points import Policy
from trilobit.errors import ConfigError
from trilobit.isa import trits
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.spec import VECTOR_REGISTERS
from trilobit.model.graph import Calibration, Graph, Node
from trilobit.sim.geometry import Geometry, parse_geometry

__all__ = ["compile_geometry", "geometry_graph", "random_memory"]

EPS = 1e-6
SIGMAS = 8.0  # range over rms of what is nearly normal
RESIDUAL_RMS = 0.3  # of what each block adds to the residual stream
GAIN_LOW, GAIN_HIGH = 0.5, 1.5
_GAIN_RMS = math.sqrt((GAIN_HIGH**3 - GAIN_LOW**3) / 3)
_EMBEDDING_RMS = math.sqrt(1 / 3)
_DENSITY = 2 / 3  # of uniform trits that are not zero
_CHUNK = 1 << 22

# A random byte to one that packs five trits: the 243 valid ones in order, as evenly as 256 allow.
_VALID = (((np.arange(256) * 243 >> 8) * 256 + 242) // 243).astype(np.uint8)
# The same byte with trits from the n-th on set to zero, for groups that are cut short: [6, 256].
_SHORT = np.stack([
    np.array([int(trits.pack(np.where(np.arange(5)[:, None] < n, trits.unpack(np.array([[b]], dtype=np.uint8), 5), 0))[0, 0])
              for b in range(256)], dtype=np.uint8)
    for n in range(6)
])  # fmt: skip


class RandomTensors:
    """Tensors that are drawn when asked for; see :class:`trilobit.assembler.compiler.tensors.Tensors`.

    Args:
        seed: of all of them.
        shapes: length of each vector, (rows, columns) of each table.
    """

    def __init__(self, seed: int, shapes: dict[str, tuple[int, ...]]):
        self.seed, self.shapes = seed, shapes

    def _rng(self, *key: object) -> np.random.Generator:
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))

    def vector(self, name: str) -> np.ndarray:
        """Gains between 0.5 and 1.5; ``NAME:BASE`` a constant just below BASE; ``1-NAME`` what that lacks to one."""
        if name not in self.shapes:
            raise KeyError(name)
        rng, (length,) = self._rng(name), self.shapes[name]
        if name.startswith("1-"):
            return 1 - self.vector(name[2:])
        if ":" in name:
            return float(name.rsplit(":", 1)[1]) * rng.uniform(0.975, 1.0, length)
        return rng.uniform(GAIN_LOW, GAIN_HIGH, length)

    def peak(self, name: str) -> float:
        """Of an embedding table: 1."""
        return 1.0

    def table(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of uniform numbers within +-1 in steps of 2^-7."""
        size = (stop - start) * self.shapes[name][1]
        data = np.frombuffer(self._rng(name, start).bytes(size), dtype=np.int8)
        return data.reshape(stop - start, -1).astype(np.float32) * np.float32(2.0**-7)

    def packed(self, name: str, start: int, stop: int, out: np.ndarray) -> None:
        """Random trits, some groups at a time; those of rows behind ``stop`` are zero."""
        rng = self._rng(name, start, stop)
        step = max(_CHUNK // out.shape[1], 1)
        for n in range(0, len(out), step):
            part = out[n : n + step]
            raw = np.frombuffer(rng.bytes(part.size), dtype=np.uint8).reshape(part.shape)
            part[:] = _VALID[raw]
        if left := (stop - start) % trits.ROWS_PER_BYTE:
            out[-1] = _SHORT[left][out[-1]]


class _GraphMaker:
    """The graph as the exporter writes it (names, order, modules), with ranges that follow from the random tensors."""

    def __init__(self, g: Geometry):
        self.g = g
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.ranges: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def node(self, op: str, *inputs: str, length: int, rms: float, top: float | None = None, module: str, name: str = "", **attrs) -> str:
        """Add a node; its range is ``top``, or eight times its rms."""
        if not name:
            count = self.counts[op] = self.counts.get(op, -1) + 1
            name = f"{op}_{count}" if count else op
        top = SIGMAS * rms if top is None else top
        node = Node(name=name, op=op, inputs=list(inputs), attrs=attrs, module=module, shape=[length], range=top, rms=rms)
        self.nodes.append(node)
        self.ranges[name] = top
        return name

    def tensor(self, name: str, *shape: int) -> str:
        self.shapes[name] = shape
        return name

    def norm(self, x: str, module: str) -> str:
        length = self.node_length(x)
        weight = self.tensor(f"{module}.weight", length)
        return self.node("rmsnorm", x, length=length, rms=_GAIN_RMS, module=module, name=module.replace(".", "_"), weight=weight, eps=EPS)

    def node_length(self, name: str) -> int:
        return next(n.shape[0] for n in reversed(self.nodes) if n.name == name)

    def linear(self, x: str, rows: int, module: str, rms: float = 1.0) -> str:
        """A product whose results have that rms."""
        columns = self.node_length(x)
        gain = self.tensor(f"{module}.norm.weight", columns)
        scale = rms / (math.sqrt(_DENSITY * columns) * _GAIN_RMS)
        return self.node(
            "bitlinear", x, length=rows, rms=rms, module=module, name=module.replace(".", "_"),
            weight=f"{module}.weight", scale=scale, rows=rows, cols=columns, norm_weight=gain, eps=EPS,
        )  # fmt: skip

    def constant(self, tensor: str, base: float, module: str, name: str) -> str:
        self.tensor(tensor, self.g.H)
        return self.node("constant", length=self.g.H, rms=base, top=base, module=module, name=name, tensor=tensor)

    def run(self) -> Graph:
        g = self.g
        self.nodes.append(Node(name="input_ids", op="token", module="", shape=[1], range=g.V - 1.0, rms=g.V / 2))
        table = self.tensor("model.embeddings.weight", g.V, g.H)
        h = self.node("embedding", "input_ids", length=g.H, rms=_EMBEDDING_RMS, top=1.0, module="model.embeddings",
                      name="model_embeddings", weight=table)  # fmt: skip
        power = _EMBEDDING_RMS**2
        for n in range(g.L):
            h, power = self._layer(n, h, power)
        out = self.linear(self.norm(h, "model.norm"), g.V, "lm_head")
        config = {"vocab_size": g.V, "hidden_size": g.H, "num_hidden_layers": g.L, "intermediate_size": g.I, "rms_norm_eps": EPS}
        graph = Graph(config=config, vocab_size=g.V, bos_token_id=1, eos_token_id=2, nodes=self.nodes, outputs=[out],
                      calibration=Calibration(tokens=0, source="random weights of a geometry"))  # fmt: skip
        graph.validate()
        return graph

    def _layer(self, n: int, h: str, power: float) -> tuple[str, float]:
        g, module = self.g, f"model.layers.{n}"
        attn, mlp = f"{module}.attn", f"{module}.mlp"
        one = self.ranges
        a = self.norm(h, f"{module}.attn_norm")
        f = self.linear(a, g.H, f"{attn}.f_proj")
        f = self.node("sigmoid", f, length=g.H, rms=0.5, top=1.0, module=attn)
        if n:  # f = LB + (1 - LB)*sigmoid, with a lower bound that grows with the layer
            rest = 1 - n / g.L
            tensor = f"{attn}.rest:{rest!r}"
            factor = self.constant(tensor, rest, attn, f"{attn}_rest".replace(".", "_"))
            scaled = self.node("mul", factor, f, length=g.H, rms=0.5, top=1.0, module=attn)
            bound = self.constant(f"1-{tensor}", 1.0, attn, f"{attn}_bound".replace(".", "_"))
            f = self.node("add", bound, scaled, length=g.H, rms=0.5, top=1.0, module=attn)
        i = self.linear(a, g.H, f"{attn}.i_proj")
        i = self.node("silu", i, length=g.H, rms=0.6, top=one[i], module=attn)
        o = self.node(
            "recurrence", i, f, length=g.H, rms=0.5, top=one[i], module=attn + ".recurrence", name=f"{attn}.recurrence".replace(".", "_")
        )
        x = self.norm(self.linear(a, g.H, f"{attn}.g_proj"), f"{attn}.g_norm")
        s = self.node("silu", o, length=g.H, rms=0.3, top=one[o], module=attn)
        o = self.node("mul", x, s, length=g.H, rms=0.3, top=one[x] * one[s] / 2, module=attn)
        o = self.linear(o, g.H, f"{attn}.o_proj", RESIDUAL_RMS)
        power += RESIDUAL_RMS**2
        r = self.node("add", h, o, length=g.H, rms=math.sqrt(power), module=module)
        m = self.norm(r, f"{module}.mlp_norm")
        gate = self.linear(m, 2 * g.I, f"{mlp}.gate_proj")
        first = self.node("slice", gate, length=g.I, rms=1.0, module=mlp, start=0, stop=g.I)
        second = self.node("slice", gate, length=g.I, rms=1.0, module=mlp, start=g.I, stop=2 * g.I)
        y = self.node("silu", first, length=g.I, rms=0.6, top=one[first], module=mlp)
        y = self.node("mul", y, second, length=g.I, rms=0.6, top=one[y] * one[second] / 2, module=mlp)
        d = self.linear(y, g.H, f"{mlp}.down_proj", RESIDUAL_RMS)
        power += RESIDUAL_RMS**2
        return self.node("add", r, d, length=g.H, rms=math.sqrt(power), module=module), power


def geometry_graph(geometry: str | Geometry) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """The graph of the MatMul-free LM of a geometry, with ranges, and the shapes of its vectors and tables by name."""
    maker = _GraphMaker(geometry if isinstance(geometry, Geometry) else parse_geometry(geometry))
    return maker.run(), maker.shapes


def compile_geometry(
    geometry: str | Geometry,
    core: str | CoreConfig,
    *,
    seed: int = 0,
    name: str | None = None,
    store_logits: bool = False,
    policy: Policy | None = None,
    registers: int = VECTOR_REGISTERS,
) -> Compiled:
    """The program and the memory layout of a MatMul-free LM with random weights; 2.7B in about a second.

    What it gives is what the compiler gives for a model: ``program``, ``lines`` (what each instruction came from),
    ``layout.stream`` (every segment: kind, rows, columns, address, beats), ``layout.regions``. No weight is made before
    ``memory()``, ``image`` or :func:`random_memory` asks for it.

    Args:
        geometry: ``370m``, ``1.3b``, ``2.7b``, ``H/L/I/V``, or a :class:`~trilobit.sim.geometry.Geometry`.
        core: a preset's name, a YAML file, or the parameters.
        seed: of the random tensors.
        name: of the program; the geometry as H/L/I/V by default.
        store_logits, policy, registers: as for :func:`trilobit.assembler.compiler.compile_graph`.

    Raises:
        ConfigError: not a geometry, or no such core.
        CompileError: vectors longer than the core's registers, or a program longer than its instruction memory.
    """
    g = geometry if isinstance(geometry, Geometry) else parse_geometry(geometry)
    config = core if isinstance(core, CoreConfig) else load_core(core)
    graph, shapes = geometry_graph(g)
    return run_passes(
        graph, RandomTensors(seed, shapes), config, name or f"random-{g.H}-{g.L}-{g.I}-{g.V}",
        store_logits=store_logits, policy=policy or Policy(), registers=registers,
    )  # fmt: skip


def random_memory(compiled: Compiled, path: str | Path | None = None) -> np.ndarray:
    """The whole memory window of a compiled geometry, with its random weights.

    Args:
        compiled: from :func:`compile_geometry`.
        path: a file to map the memory from instead of holding it; it is overwritten.

    Returns:
        [window_size] of uint8, writable: an array, or a memmap of ``path``. The largest temporary is some 32 MB.

    Raises:
        ConfigError: the file can't be written.
    """
    size = compiled.program.window_size
    if path is None:
        memory = np.zeros(size, dtype=np.uint8)
    else:
        try:
            memory = np.memmap(path, dtype=np.uint8, mode="w+", shape=(size,))
        except OSError as error:
            raise ConfigError(f"{path}: expected to write {size} bytes there, can't: {error.strerror or error}") from error
    compiled.layout.fill(memory)
    return memory
