"""Small graphs with random weights, and the compiled program run against the float evaluator."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from trilobit.assembler.bundle import logit_places, teacher_forced
from trilobit.assembler.compiler import Compiled
from trilobit.isa import trits
from trilobit.model.evaluator import evaluate_float
from trilobit.model.graph import Graph, Node, load_tensors, save_graph
from trilobit.model.ranges import calibrate
from trilobit.sim.functional import FunctionalSimulator

VOCABULARY = 40
TOY = Path(__file__).parents[1] / "model" / "data" / "toy"
TOY2 = TOY.with_name("toy2")


class GraphMaker:
    """Adds nodes one by one; every method returns the new node's name."""

    def __init__(self, seed: int, width: int = 32, vocabulary: int = VOCABULARY):
        self.rng = np.random.default_rng(seed)
        self.width, self.vocabulary = width, vocabulary
        self.nodes: list[Node] = [Node(name="token", op="token", shape=[1])]
        self.tensors: dict[str, np.ndarray] = {}
        self.shapes = {"token": 1}

    def node(self, op: str, *inputs: str, length: int | None = None, name: str | None = None, **attrs) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        length = length or self.shapes[inputs[0]]
        self.nodes.append(Node(name=name, op=op, inputs=list(inputs), attrs=attrs, module=f"net.{name}", shape=[length]))
        self.shapes[name] = length
        return name

    def tensor(self, value: np.ndarray) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = np.ascontiguousarray(value)
        return name

    def embedding(self) -> str:
        table = self.rng.standard_normal((self.vocabulary, self.width)).astype(np.float32)
        return self.node("embedding", "token", length=self.width, weight=self.tensor(table))

    def gain(self, length: int) -> str:
        return self.tensor(self.rng.uniform(0.5, 1.5, length).astype(np.float32))

    def rmsnorm(self, x: str, gain: bool = True, eps: float = 1e-6) -> str:
        return self.node("rmsnorm", x, weight=self.gain(self.shapes[x]) if gain else None, eps=eps)

    def bitlinear(self, x: str, rows: int | None = None, gain: bool = True, eps: float = 1e-6) -> str:
        columns, rows = self.shapes[x], rows or self.width
        weight = self.tensor(trits.pack(self.rng.integers(-1, 2, (rows, columns))))
        norm = self.gain(columns) if gain else None
        return self.node(
            "bitlinear", x, length=rows, weight=weight, scale=1.4 / columns**0.5, rows=rows, cols=columns, norm_weight=norm, eps=eps
        )

    def constant(self, value: np.ndarray) -> str:
        value = np.asarray(value, dtype=np.float32)
        return self.node("constant", length=len(value), tensor=self.tensor(value))

    def scalar(self, op: str, x: str, value: float, side: str = "right") -> str:
        return self.node(op, x, scalar=value, side=side)

    def slice(self, x: str, start: int, stop: int) -> str:
        return self.node("slice", x, length=stop - start, start=start, stop=stop)

    def save(self, folder: Path, output: str, calibration: int = 300) -> Path:
        """Write the graph with ranges measured on random tokens."""
        graph = Graph(vocab_size=self.vocabulary, nodes=self.nodes, outputs=[output], eos_token_id=1, bos_token_id=0)
        calibrate(graph, self.tensors, self.rng.integers(0, self.vocabulary, calibration), "random tokens")
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors, folder / graph.tensors)
        save_graph(graph, folder)
        return folder


def run_logits(compiled: Compiled, tokens: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
    """Logits [T, V] of the program on the functional simulator, teacher-forced, and saturated elements by pc."""
    assert compiled.logits.addr is not None
    simulator = FunctionalSimulator(compiled.core, teacher_forced(compiled.program), compiled.memory())
    places = logit_places(compiled.logits, compiled.core)[0] + compiled.logits.addr // 4
    rows = []
    for token in tokens:
        simulator.push([int(token)])
        result = simulator.run()
        assert not result.fault, f"fault {result.fault} at {result.fault_pc}: {simulator.fault_detail}"
        rows.append(simulator.memory.view("<i4")[places] * 2.0**-compiled.logits.point)
    assert result.tokens == [int(row.argmax()) for row in rows]
    return np.array(rows), result.saturated


def compare(compiled: Compiled, folder: Path, count: int = 60, seed: int = 5) -> float:
    """Cosine of the program's logits with the float evaluator's over random tokens; prints what is worth knowing."""
    tokens = np.random.default_rng(seed).integers(0, compiled.graph.vocab_size, count)
    expected = evaluate_float(compiled.graph, load_tensors(compiled.graph, folder), tokens).astype(np.float64)
    got, saturated = run_logits(compiled, tokens)
    cosine = float((expected * got).sum() / np.linalg.norm(expected) / np.linalg.norm(got))
    top1 = float((expected.argmax(1) == got.argmax(1)).mean())
    print(f"seed {seed}: cosine {cosine:.6f}, top-1 {top1:.3f}, saturated {saturated}")
    return cosine
