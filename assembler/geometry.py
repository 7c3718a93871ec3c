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
from trilobit.model.config import ModelConfig
from trilobit.model.graph import Calibration, Graph
from trilobit.model.published import graph_of, tensor_specs
from trilobit.sim.geometry import Geometry, parse_geometry

__all__ = ["compile_geometry", "geometry_graph", "random_memory"]

SIGMAS = 8.0  # range over rms of what is nearly normal
RESIDUAL_RMS = 0.3  # of what each block adds to the residual stream
GAIN_LOW, GAIN_HIGH = 0.5, 1.5
_GAIN_RMS = math.sqrt((GAIN_HIGH**3 - GAIN_LOW**3) / 3)
_EMBEDDING_RMS = math.sqrt(1 / 3)
_DENSITY = 2 / 3  # of uniform trits that are not zero
_CHUNK = 1 << 22
_REST, _BOUND = "constant.lower_bound_rest_", "constant.lower_bound_"

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
        config: the model's.
    """

    def __init__(self, seed: int, config: ModelConfig):
        self.seed, self.config = seed, config
        self._shapes = {spec.name: spec.shape for spec in tensor_specs(config)}

    def _rng(self, *key: object) -> np.random.Generator:
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))

    def vector(self, name: str) -> np.ndarray:
        """Gains between 0.5 and 1.5; lower bounds that grow with the layer, and what they lack to one."""
        if name.startswith(_REST):
            top = 1 - int(name.removeprefix(_REST)) / self.config.num_hidden_layers
            return top * self._rng(name).uniform(0.975, 1.0, self.config.hidden_size)
        if name.startswith(_BOUND):
            return 1 - self.vector(_REST + name.removeprefix(_BOUND))
        (length,) = self._shapes[name]
        return self._rng(name).uniform(GAIN_LOW, GAIN_HIGH, length)

    def peak(self, name: str) -> float:
        """Of the embedding table: 1."""
        return 1.0

    def table(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of uniform numbers within +-1 in steps of 2^-7."""
        size = (stop - start) * self._shapes[name][1]
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


def _set_ranges(graph: Graph) -> None:
    """The rms and the range of every vector, as they follow from the random tensors."""
    found: dict[str, tuple[float, float]] = {}
    for node in graph.nodes:
        inputs = [found[name] for name in node.inputs]
        match node.op:
            case "embedding":
                rms, top = _EMBEDDING_RMS, 1.0
            case "rmsnorm":
                rms, top = _GAIN_RMS, SIGMAS * _GAIN_RMS
            case "bitlinear":
                rms = node.attrs["scale"] * _unit_scale(node.attrs["cols"]) ** -1
                top = SIGMAS * rms
            case "constant" | "sigmoid":
                rms, top = 0.5, 1.0
            case "mul":
                (rms, top), (r, p) = inputs
                rms, top = rms * r, top * p if 1.0 in (top, p) else top * p / 2  # two vectors are never both at their ends
            case "add":
                rms = math.hypot(*(r for r, _ in inputs))
                top = 1.0 if all(p == 1.0 for _, p in inputs) else SIGMAS * rms  # the forget gate stays below one
            case "token":
                rms, top = graph.vocab_size / 2, graph.vocab_size - 1.0
            case _:  # slice, silu, recurrence
                rms, top = inputs[0]
        found[node.name] = rms, top
        node.rms, node.range = rms, top


def _unit_scale(columns: int) -> float:
    """The scale of a ternary matrix whose results have an rms of one."""
    return 1 / (math.sqrt(_DENSITY * columns) * _GAIN_RMS)


def geometry_graph(geometry: str | Geometry) -> tuple[Graph, ModelConfig]:
    """The graph of the MatMul-free LM of a geometry, with ranges, and its configuration."""
    g = geometry if isinstance(geometry, Geometry) else parse_geometry(geometry)
    config = ModelConfig(vocab_size=g.V, hidden_size=g.H, num_hidden_layers=g.L, intermediate_size=g.I)
    columns = {spec.name: spec.shape[1] for spec in tensor_specs(config) if spec.ternary}
    residual = (".o_proj.weight", ".down_proj.weight")
    graph = graph_of(config, lambda name: _unit_scale(columns[name]) * (RESIDUAL_RMS if name.endswith(residual) else 1.0))
    _set_ranges(graph)
    graph.calibration = Calibration(tokens=0, source="random weights of a geometry")
    return graph, config


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
    graph, model = geometry_graph(g)
    return run_passes(
        graph, RandomTensors(seed, model), config, name or f"random-{g.H}-{g.L}-{g.I}-{g.V}",
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
