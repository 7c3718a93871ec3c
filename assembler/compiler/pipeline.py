"""The passes in their order, and the result with its report."""

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trilobit.assembler.bundle import Logits, Manifest, Point, RegionEntry, core_parameters, save_bundle
from trilobit.assembler.compiler.allocate import allocate
from trilobit.assembler.compiler.emit import Line, emit, to_program, to_text
from trilobit.assembler.compiler.importer import Check, Operation, check_folder, read_graph
from trilobit.assembler.compiler.ir import Value
from trilobit.assembler.compiler.layout import Layout, layout
from trilobit.assembler.compiler.lower import lower
from trilobit.assembler.compiler.points import Policy, choose
from trilobit.assembler.compiler.schedule import mark_head, schedule
from trilobit.assembler.compiler.select import select
from trilobit.assembler.compiler.tensors import Stored, Tensors
from trilobit.assembler.layers import layer_report
from trilobit.errors import CompileError, ModelError
from trilobit.isa.core import CoreConfig, load_core, presets
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA, VECTOR_REGISTERS
from trilobit.model.calibration import DEFAULT_TOKENS, calibrate_on_text, text_tokens
from trilobit.model.graph import Graph
from trilobit.model.vocabulary import check_vocabulary

__all__ = ["Compiled", "check_model", "compile_graph", "compile_model", "resolve", "run_passes", "shipped_or_path"]

Progress = Callable[[str, int, int], None]


@dataclass
class Compiled:
    """A compiled model.

    Attributes:
        name: the model's.
        graph: what it was compiled from.
        core: what for.
        program, source: its instructions, and the same as assembly text.
        values: every vector of the program with its format.
        lines: what each instruction came from.
        layout: where everything lies.
        logits: length, binary point and place of the logits.
        saturated: elements that saturated in a calibration run, by name of the vector; None before one.
        calibration_seconds: what measuring the ranges took, if that was done here.
    """

    name: str
    graph: Graph
    core: CoreConfig
    program: Program
    source: str
    values: list[Value]
    lines: list[Line]
    layout: Layout
    logits: Logits
    tokenizer: Path | None = None
    saturated: dict[str, int] | None = None
    checked_tokens: int = 0
    calibration_seconds: float | None = None
    _image: np.ndarray | None = field(default=None, repr=False)

    @property
    def image(self) -> np.ndarray:
        """The read-only part of the memory window: [write_start] of uint8."""
        if self._image is None:
            self._image = self.layout.image()
        return self._image

    def memory(self) -> np.ndarray:
        """The memory window as the program starts with it: [window_size] of uint8, a writable copy."""
        memory = np.zeros(self.program.window_size, dtype=np.uint8)
        if self._image is None:
            self.layout.fill(memory)
        else:
            memory[: len(self._image)] = self._image
        return memory

    def weights(self, head: bool = True) -> int:
        """Ternary weights, without padding, that a token streams; without the head as prompt tokens do."""
        instrs = [line.instr for line in self.lines if line.instr is not None]
        return sum(i.length * i.matrix.columns for i in instrs if i.matrix is not None and (head or not i.head))

    def report(self) -> dict[str, Any]:
        """Sizes, and every vector with its range, binary point and saturations (null without a calibration run)."""
        tensors = []
        for v in self.values:
            top = math.ldexp(1.0, (31 if v.wide else 15) - v.point)
            tensors.append({
                "name": v.name, "operation": v.op, "module": v.module, "length": v.length, "range": v.range,
                "rms": v.rms or None, "point": v.point, "bits": 32 if v.wide else 16,
                "headroom_bits": round(math.log2(top / v.range), 2) if v.range else None,
                "saturations": None if self.saturated is None else self.saturated.get(v.name, 0),
            })  # fmt: skip
        run = None if self.saturated is None else {"tokens": self.checked_tokens, "saturated": self.saturated}
        return {
            "name": self.name,
            "core": self.core.name,
            "instructions": len(self.program.code),
            "window_bytes": self.program.window_size,
            "image_bytes": self.program.write_start,
            "weights_per_token": self.weights(),
            "spills": sum(
                line.instr.op == "sv" and line.instr.place is not None and line.instr.place.region == "scratch"
                for line in self.lines
                if line.instr
            ),
            "calibration_seconds": self.calibration_seconds,
            "saturation_run": run,
            "layers": layer_report(tensors, self.saturated),
            "tensors": tensors,
        }

    def save(self, folder: str | Path) -> Path:
        """Write the bundle; see :func:`trilobit.assembler.bundle.save_bundle`."""
        return save_bundle(
            folder, program=self.program, source=self.source, image=self.image, report=self.report(),
            tokenizer=self.tokenizer, manifest=self._manifest,
        )  # fmt: skip

    def _manifest(self, checksums: dict[str, str]) -> Manifest:
        graph = self.graph
        regions = [RegionEntry(r.name, r.addr, r.size, r.element, r.writable) for r in self.program.regions.values()]
        calibration = graph.calibration
        return Manifest(
            name=self.name, trilobit=version("trilobit"), isa=ISA.version,
            geometry={**(graph.config or {}), "vocab_size": graph.vocab_size}, core=core_parameters(self.core),
            window_size=self.program.window_size, write_start=self.program.write_start, regions=regions,
            points={v.name: Point(v.point, 32 if v.wide else 16) for v in self.values}, logits=self.logits,
            weights_per_token=self.weights(), prompt_weights=self.weights(head=False),
            bos_token_id=graph.bos_token_id, eos_token_id=graph.eos_token_id,
            calibration={"tokens": calibration.tokens, "source": calibration.source} if calibration else None,
            tokenizer="tokenizer.json" if self.tokenizer else None, checksums=checksums,
        )  # fmt: skip


def _core(core: str | CoreConfig) -> CoreConfig:
    return core if isinstance(core, CoreConfig) else load_core(core)


def compile_graph(
    folder: str | Path,
    core: str | CoreConfig,
    *,
    name: str | None = None,
    store_logits: bool = False,
    policy: Policy | None = None,
    registers: int = VECTOR_REGISTERS,
    calibrate: str | Path | None = None,
    range_tokens: int = DEFAULT_TOKENS,
    tokenizer: str | Path | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Compile an exported graph.

    Args:
        folder: holds graph.json, its tensors and perhaps tokenizer.json.
        core: a preset's name, a YAML file, or the parameters.
        name: of the model; the folder's by default.
        store_logits: also store the logits of each token that has some to the region ``logits``.
        policy: how ranges become binary points.
        registers: vector registers to use, 4 to 8.
        calibrate: a text to measure ranges on anew, its first ``range_tokens`` tokens; the graph on disk keeps its own.
        tokenizer: a tokenizer.json instead of the folder's.
        progress: called with what is under way, steps done and steps to do.

    Raises:
        CompileError: an operation that can't be mapped, or a model too large for the core.
        ModelError, ConfigError: files or a core that can't be used.
    """
    folder, core, policy = Path(folder), _core(core), policy or Policy()
    graph, tensors = read_graph(folder)
    if tokenizer is None and (folder / "tokenizer.json").is_file():
        tokenizer = folder / "tokenizer.json"
    if tokenizer is not None:
        check_vocabulary(Path(tokenizer), graph.vocab_size, padded=True)
    measured = None
    if calibrate is not None:
        told = None if progress is None else partial(progress, "Measuring ranges")
        measured = calibrate_on_text(graph, tensors, calibrate, tokenizer, range_tokens, told)
    name = name or folder.resolve().name
    compiled = run_passes(graph, Stored(tensors), core, name, store_logits=store_logits, policy=policy, registers=registers)
    compiled.tokenizer = None if tokenizer is None else Path(tokenizer)
    compiled.calibration_seconds = None if measured is None else measured.seconds
    return compiled


def run_passes(
    graph: Graph, tensors: Tensors, core: CoreConfig, name: str, *, store_logits: bool, policy: Policy, registers: int
) -> Compiled:
    """All passes on a checked graph whose nodes have ranges; arguments as for :func:`compile_graph`."""
    values = lower(graph, tensors, core)
    choose(values, policy)
    instrs = select(values, core, policy, store_logits)
    mark_head(instrs)
    order = allocate(schedule(instrs, core, registers), registers)
    place = layout(order, tensors, core, graph.vocab_size, store_logits)
    lines = emit(order, place, core, graph.vocab_size)
    is_preset = core.name in presets() and load_core(core.name) == core
    search = next(i for i in instrs if i.op == "argmax")
    logits, tile = search.reads["va"], search.value.attrs["tile"]
    region = place.regions.get("logits")
    made = [i.writes for i in instrs if i.writes is not None and i.writes.kind == "vector"]
    return Compiled(
        name=name, graph=graph, core=core, program=to_program(lines, place, core, name),
        source=to_text(lines, place, core, name, is_preset), values=made, lines=lines, layout=place,
        logits=Logits(graph.vocab_size, logits.point, region.addr if region else None, tile if tile < graph.vocab_size else None),
    )  # fmt: skip


# ---- models by name, by folder, or of one's own ----------------------------------------------------------------------------


def resolve(spec: str | Path) -> Path | None:
    """The folder of an exported graph that a specification names: a folder, or a model that ships with Trilobit."""
    path = Path(spec)
    if (path / "graph.json").is_file():
        return path
    import trilobit.model

    for root in trilobit.model.__path__:
        shipped = Path(root) / "pretrained" / str(spec)
        if path.name == str(spec) and (shipped / "graph.json").is_file():
            return shipped
    return None


def shipped_or_path(path: Path) -> Path:
    """The folder of a model that ships with Trilobit, if the path is its name and is not there; else the path."""
    return path if path.exists() else resolve(path) or path


def _is_own(spec: str | Path) -> bool:
    return ":" in Path(spec).name


def _tokenizer_beside(*files: str | Path | None) -> Path | None:
    """The tokenizer.json in the folder of one of the files, the first found."""
    found = (Path(file).parent / "tokenizer.json" for file in files if file is not None)
    return next((path for path in found if path.is_file()), None)


def _no_such(spec: str | Path) -> ModelError:
    import trilobit.model

    if (Path(spec) / "config.json").is_file():
        if reason := _not_compilable(Path(spec) / "config.json"):
            return ModelError(f"{spec}: can't be mapped onto the machine: {reason}")
        return ModelError(f"{spec}: expected a folder with graph.json, got a checkpoint; import it first: trilobit import {spec} -o PACKED")
    names = {p.parent.name for root in trilobit.model.__path__ for p in Path(root).glob("pretrained/*/graph.json")}
    shipped = f" ({', '.join(sorted(names))})" if names else ""
    return ModelError(
        f"{spec}: expected a folder with graph.json, a model that ships with Trilobit{shipped}, or FILE.py:FUNCTION; "
        "export a model first with trilobit.model.export_graph"
    )


def _not_compilable(config: Path) -> str | None:
    """What is in the way of a trained baseline that has no graph, as training left it in ``config.json``."""
    try:
        reason = json.loads(config.read_bytes())["not_compilable"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return reason if isinstance(reason, str) else None


def check_model(spec: str | Path, weights: str | Path | None = None) -> Check:
    """Which operations of a model are mapped, without compiling it.

    Args:
        spec: as for :func:`compile_model`.
        weights: safetensors for an own model; not needed.
    """
    if _is_own(spec):
        from trilobit.model import build_from_spec, check_graph

        found = check_graph(build_from_spec(str(spec), weights))
        return Check(
            [Operation(o.operation, o.module) for o in found.mapped],
            [Operation(o.operation, o.module, o.reason) for o in found.unmapped],
        )
    folder = resolve(spec)
    if folder is None:
        raise _no_such(spec)
    return check_folder(folder)


def compile_model(
    spec: str | Path,
    core: str | CoreConfig,
    output: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    calibrate: str | Path | None = None,
    tokenizer: str | Path | None = None,
    name: str | None = None,
    store_logits: bool = False,
    policy: Policy | None = None,
    registers: int = VECTOR_REGISTERS,
    report_text: str | Path | None = None,
    report_tokens: int = 256,
    range_tokens: int = DEFAULT_TOKENS,
    progress: Progress | None = None,
) -> Compiled:
    """Compile a model: ``trilobit.compile``.

    Args:
        spec: a folder with graph.json, the name of a model that ships with Trilobit, or ``FILE.py:FUNCTION`` for an own
            model (FUNCTION returns the torch module).
        core: a preset's name, a YAML file, or the parameters.
        output: the bundle's folder; None writes nothing.
        weights: safetensors of an own model.
        calibrate: a text to measure ranges on: all of it for an own model, the first ``range_tokens`` tokens for a folder.
        tokenizer: a tokenizer.json; by default the folder's, or one that lies beside an own model's weights or file.
        report_text: a text to run through the functional simulator to count saturations for the report; its first
            ``report_tokens`` tokens.
        name, store_logits, policy, registers, progress: as for :func:`compile_graph`.

    Raises:
        CompileError, ModelError, ConfigError: as :func:`compile_graph`.
        BundleError: the output can't be written.
    """
    text: str | Path | None = None  # to calibrate a graph on; an own model is calibrated when it is exported
    with tempfile.TemporaryDirectory() as temporary:
        if _is_own(spec):
            from trilobit.model import export_for_compile

            folder = Path(temporary) / "graph"
            tokenizer = tokenizer or _tokenizer_beside(weights, str(spec).rsplit(":", 1)[0])
            export_for_compile(str(spec), weights, calibrate, tokenizer, folder)
            name = name or Path(str(spec).rsplit(":", 1)[0]).stem
        else:
            found = resolve(spec)
            if found is None:
                raise _no_such(spec)
            if weights:
                raise CompileError(f"{spec}: weights belong to FILE.py:FUNCTION, not to an exported graph")
            folder, text = found, calibrate
        compiled = compile_graph(
            folder, core, name=name, store_logits=store_logits, policy=policy, registers=registers, calibrate=text,
            range_tokens=range_tokens, tokenizer=tokenizer, progress=progress,
        )  # fmt: skip
        if report_text is not None:
            from trilobit.assembler.compiler.saturation import count_saturations

            tokens = text_tokens(report_text, report_tokens, compiled.graph.vocab_size, compiled.tokenizer)
            told = None if progress is None else partial(progress, "Counting saturations")
            count_saturations(compiled, tokens, told)
        if output is not None:
            compiled.save(output)
        compiled.image  # noqa: B018 - made while an own model's files are still there
    return compiled
