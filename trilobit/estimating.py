"""What ``trilobit estimate`` and ``power`` estimate: a geometry, a bundle, or a model that ships with Trilobit; and its figures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.isa.segments import Segment

if TYPE_CHECKING:
    from trilobit.assembler.bundle import Bundle

__all__ = ["Subject", "bundle_subject", "figures", "load_subject"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A program to estimate.

    Attributes:
        kind: ``geometry``, ``bundle`` or ``model``.
        weights: ternary weights that a token reads, unpadded.
        segments: the stream, or None where ``image`` has its headers.
        details: for ``--json``.
    """

    kind: str
    program: Program
    core: CoreConfig
    weights: int
    segments: list[Segment] | None = None
    image: np.ndarray | None = None
    details: dict[str, Any] = field(default_factory=dict)


def bundle_subject(bundle: "Bundle", text: str) -> Subject:
    """A loaded bundle as a subject; ``text`` is how the user calls it."""
    return Subject(kind="bundle", program=bundle.program, core=bundle.core, weights=bundle.manifest.weights_per_token,
                   image=bundle.memory(), details={"bundle": text, "model": bundle.manifest.name})  # fmt: skip


def load_subject(text: str, core_name: str | None, default_core: str, batch: int | None = None) -> Subject:
    """A bundle's folder, a model by its name or folder (both compiled programs), or a geometry.

    Args:
        core_name: preset or YAML file; None: a bundle's own core, else ``default_core``.
        batch: sequences a pass instead of the core's.

    Raises:
        ConfigError: it is none of these, or a bundle with another core.
        CompileError: the core is too small for it.
    """
    from trilobit.assembler.bundle import MANIFEST, load_bundle

    if (Path(text) / MANIFEST).is_file():
        bundle = load_bundle(text)
        core = bundle.core
        if batch not in (None, core.batch):
            raise ConfigError(f"{text}: compiled for a batch of {core.batch}; compile the model with --batch {batch}, or leave --batch out")
        if core_name is not None and load_core(core_name, core.batch).replace(clock_mhz=core.clock_mhz) != core:
            raise ConfigError(f"{text}: compiled for core {core.name!r}; compile the model for {core_name!r}, or leave --core out")
        return bundle_subject(bundle, text)
    from trilobit.assembler.compiler import compile_graph
    from trilobit.assembler.compiler.pipeline import resolve
    from trilobit.assembler.geometry import compile_geometry
    from trilobit.sim.geometry import parse_geometry

    core = load_core(core_name or default_core, batch)
    if (folder := resolve(text)) is not None:
        compiled, kind = compile_graph(folder, core), "model"
        details: dict[str, Any] = {"model": text}
    else:
        try:
            g = parse_geometry(text)
        except ConfigError as error:
            raise ConfigError(f"{error}; a model's name or folder, or a bundle's folder, will do as well") from None
        compiled, kind = compile_geometry(g, core), "geometry"
        details = {"geometry": {"H": g.H, "L": g.L, "I": g.I, "V": g.V}}
    return Subject(kind=kind, program=compiled.program, core=core, weights=compiled.weights(), segments=list(compiled.layout.stream),
                   details=details)  # fmt: skip


def figures(subject: Subject, *, memory: str = "ideal", clock_mhz: float | None = None, trace: Path | None = None) -> dict[str, Any]:
    """What ``trilobit estimate --json`` prints of a subject: exact, from the cycle model.

    Args:
        memory: as :func:`trilobit.sim.memory.parse_memory` takes it.
        clock_mhz: clock in MHz instead of the core's.
        trace: file for a timeline of one token.

    Raises:
        ConfigError: no such memory.
        ProgramError: a program that does not emit token after token.
    """
    from trilobit.fitting import fits
    from trilobit.sim.estimate import estimate

    result = estimate(subject.program, subject.core, weights=subject.weights, memory=memory, clock_mhz=clock_mhz,
                      segments=subject.segments, image=subject.image, trace=trace).to_dict()  # fmt: skip
    board = fits(subject.core, result["on_chip_bits"])
    return subject.details | result | {"instructions": len(subject.program.code), "board": board}
