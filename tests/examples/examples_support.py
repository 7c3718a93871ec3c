"""Running the examples: assembled as a user would, on any backend."""

from pathlib import Path

import numpy as np

from trilobit.arrays import region_values
from trilobit.assembler import assemble_file
from trilobit.isa.core import load_core
from trilobit.sim.backend import Backend, HostSettings
from trilobit.sim.functional import FunctionalSimulator

__all__ = ["EXAMPLES", "HOST", "example", "initial", "run_functional", "values"]

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.s"))
# What the host does besides starting the program: prompt tokens, settings.
HOST = {"argmax": ([3], HostSettings(limit=8))}


def example(name: str):
    """The program of an example and its core."""
    program = assemble_file(FOLDER / f"{name}.s")
    return program, load_core(program.core)


def run_functional(name: str, memory: np.ndarray | None = None) -> FunctionalSimulator:
    """An example, run to its end on the functional simulator."""
    program, config = example(name)
    prompt, settings = HOST.get(name, ([], HostSettings()))
    sim = FunctionalSimulator(config, program, memory, settings)
    sim.push(prompt)
    result = sim.run()
    assert result.halted and not result.fault, (result, sim.fault_detail)
    return sim


def values(sim: Backend, region: str) -> np.ndarray:
    """A region's elements as the machine left them, float64 so that tests can calculate."""
    return region_values(sim.memory, sim.program.regions[region]).astype(np.float64)


def initial(sim: Backend, region: str) -> np.ndarray:
    """A region's elements as the program starts."""
    return region_values(sim.program.memory(), sim.program.regions[region]).astype(np.float64)
