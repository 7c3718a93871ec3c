"""``trilobit run`` of a program: set registers and memory, run or step, show what is there afterwards."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from trilobit.arrays import load_integers, region_bytes, region_values, save_array
from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program, Region
from trilobit.isa.spec import ISA, VECTOR_REGISTERS
from trilobit.output import output_folder, print_json
from trilobit.running import EVIDENCE, instruction_at, make_backend, print_counters, raise_fault, result_json, write_timeline
from trilobit.sim.backend import Backend, HostSettings

__all__ = ["ProgramRun", "load_program", "parse_dump"]

SHOWN = 8  # elements of a register that are shown unless it was asked for
PER_LINE = 12


def load_program(path: Path, core: str | None, batch: int | None = None) -> tuple[Program, CoreConfig]:
    """A program from assembly text or a binary, and the core it runs on, with another ``batch`` if one is given.

    Raises:
        ConfigError: the kind of the file is unknown, no core is named anywhere, or the program was made for another.
    """
    if path.suffix == ".bin":
        program = Program.load(path)
    elif path.suffix == ".s":
        from trilobit.assembler.asm import assemble_file

        program = assemble_file(path, core=core)
        if batch is not None and (named := core or program.core):
            program = assemble_file(path, core=load_core(named, batch))  # vectors in memory are longer
    else:
        raise ConfigError(f"expected a bundle (folder), PROG.s or PROG.bin, got {str(path)!r}")
    name = core or program.core
    if name is None:
        raise ConfigError(f"{path}: expected --core PRESET, as the program names none")
    config = load_core(name, batch)
    if program.core and config.name != program.core and config.beat_bytes != _beat_bytes(program.core):
        raise ConfigError(f"{path}: made for core {program.core!r}, which has other memory beats than {config.name!r}")
    return program, config


def _beat_bytes(core: str) -> int | None:
    try:
        return load_core(core).beat_bytes
    except ConfigError:
        return None


def _region(program: Program, name: str, flag: str) -> Region:
    if name not in program.regions:
        known = ", ".join(program.regions) or "none"
        raise ConfigError(f"{flag}: no region {name!r} in program {program.name!r}; it has {known}")
    return program.regions[name]


def parse_dump(text: str | None, program: Program) -> tuple[list[int], list[Region]]:
    """Registers and regions of ``v0,v2-v4,mem:NAME``.

    Raises:
        ConfigError: an item that is neither, or names what isn't there.
    """
    registers: list[int] = []
    regions: list[Region] = []
    for item in filter(None, (piece.strip() for piece in (text or "").split(","))):
        if item.startswith("mem:"):
            regions.append(_region(program, item[4:], "--dump"))
        elif match := re.fullmatch(r"v([0-7])(?:-v?([0-7]))?", item):
            registers += range(int(match[1]), int(match[2] or match[1]) + 1)
        else:
            raise ConfigError(f"--dump: expected v0 to v{VECTOR_REGISTERS - 1}, a range such as v0-v7, or mem:NAME, got {item!r}")
    return registers, regions


def _assignments(pairs: Sequence[str], flag: str) -> list[tuple[str, Path]]:
    split = [pair.partition("=") for pair in pairs]
    for pair, (name, equals, path) in zip(pairs, split, strict=True):
        if not (name and equals and path):
            raise ConfigError(f"{flag}: expected NAME=FILE.npy, got {pair!r}")
    return [(name, Path(path)) for name, _, path in split]


@dataclass(kw_only=True)
class ProgramRun:
    """The options of a run; :meth:`execute` does it.

    Attributes:
        path, core, batch, backend: what runs, and where. settings: the host's.
        push: prompt tokens of each slot; the last are those of all further slots.
        sets, mems: ``NAME=FILE.npy``. dump: as :func:`parse_dump`. out: folder for the dump as ``.npy`` files.
        step: show each instruction. waves: file for the RTL's waves. memory_model: timing of the memory.
        trace: file for a timeline.
    """

    path: Path
    core: str | None
    backend: str
    settings: HostSettings
    batch: int | None = None
    push: Sequence[Sequence[int]] = ()
    sets: Sequence[str] = ()
    mems: Sequence[str] = ()
    dump: str | None = None
    out: Path | None = None
    step: bool = False
    waves: Path | None = None
    memory_model: str | None = None
    trace: Path | None = None
    as_json: bool = False

    def execute(self) -> None:
        """Run and print. FaultError at the end if the machine faulted; the state is shown before."""
        program, config = load_program(self.path, self.core, self.batch)
        if len(self.push) > config.batch:
            raise ConfigError(f"expected --push at most {config.batch} times, once for each sequence of the batch, got {len(self.push)}")
        registers, regions = parse_dump(self.dump, program)
        memory = program.memory()
        for name, path in _assignments(self.mems, "--mem"):
            region = _region(program, name, "--mem")
            content = region_bytes(path, region, f"--mem {name}")
            memory[region.addr : region.addr + len(content)] = content
        given = [self._vector(name, path, config) for name, path in _assignments(self.sets, "--set")]
        with make_backend(self.backend, config, program, memory, self.settings, self.waves, self.memory_model,
                          self.trace) as backend:  # fmt: skip
            for index, values in given:
                backend.set_register(index, values)
            for slot in range(config.batch if self.push else 0):
                backend.push(self.push[min(slot, len(self.push) - 1)], slot=slot)
            steps = self._steps(backend) if self.step else None
            result = backend.result() if self.step else backend.run()
            write_timeline(self.trace, backend)
            if not registers and not regions and not (result.waiting and self.backend == "rtl"):
                registers = list(range(VECTOR_REGISTERS))  # the hardware shows them only when it has stopped
            vectors = {f"v{i}": backend.register(i) for i in registers}
            contents = {region.name: region_values(backend.memory, region) for region in regions}
            if self.out is not None:
                self._save(vectors, contents)
            if self.as_json:
                data = {"program": program.name, "core": config.name, "batch": config.batch, "backend": self.backend,
                        "evidence": EVIDENCE.get(self.backend), "text": None}  # fmt: skip
                data |= result_json(result) | {"registers": vectors, "memory": contents}
                print_json(data if steps is None else data | {"steps": steps})
            else:
                _show(vectors, contents, full=self.dump is not None)
                for slot in sorted(set(result.slots)):
                    click.echo(f"tokens{f' of slot {slot}' if config.batch > 1 else ''} " + " ".join(map(str, result.tokens_of(slot))))
                print_counters(result)
                if result.waiting:
                    click.echo("the program waits for a prompt token (--push)")
            raise_fault(backend, result)

    @staticmethod
    def _vector(name: str, path: Path, config: CoreConfig) -> tuple[int, np.ndarray]:
        if not re.fullmatch(r"v[0-7]", name):
            raise ConfigError(f"--set: expected a register v0 to v{VECTOR_REGISTERS - 1}, got {name!r}")
        limit = 1 << 31
        values = load_integers(path, longest=config.max_length, low=-limit, high=limit - 1, what=f"--set {name}")
        return int(name[1]), values if config.batch == 1 else np.tile(values, (config.batch, 1))

    def _steps(self, backend: Backend) -> list[dict[str, Any]]:
        """Run instruction by instruction, showing each as it retires and, without a clock, what it wrote."""
        steps = []
        while (retire := backend.step()) is not None:
            step: dict[str, Any] = {"pc": retire.pc, "unit": retire.unit, "cycle": retire.cycle}
            step["text"] = instruction_at(backend.program, retire.pc)
            written = ISA.decode(backend.program.code[retire.pc])
            if retire.cycle is None and "vd" in written.values:
                step["result"] = backend.register(written["vd"])[..., : written["len"]]
            steps.append(step)
            if not self.as_json:
                cycle = "" if retire.cycle is None else f"{retire.cycle:>8}"
                click.echo(f"{cycle}{retire.pc:>6}  {step['text']}")
                if "result" in step:
                    for name, values in _by_slot(f"v{written['vd']}", step["result"]):
                        click.echo(f"{'':>8}{name} = {_some(values)}")
        return steps

    def _save(self, values: dict[str, np.ndarray], contents: dict[str, np.ndarray]) -> None:
        assert self.out is not None
        output_folder(self.out)
        for name, value in values.items():
            save_array(self.out / f"{name}.npy", value.astype(np.int32))
        for name, value in contents.items():
            save_array(self.out / f"mem-{name}.npy", value)


def _by_slot(name: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A register as its slots, each with a name; itself if there is one slot."""
    return [(name, values)] if values.ndim == 1 else [(f"{name} slot {slot}", part) for slot, part in enumerate(values)]


def _some(values: np.ndarray) -> str:
    more = f" ... ({len(values)} elements)" if len(values) > SHOWN else ""
    return " ".join(map(str, values[:SHOWN])) + more


def _show(values: dict[str, np.ndarray], contents: dict[str, np.ndarray], *, full: bool) -> None:
    """Registers (the beginning of those that are not zero, unless asked for) and regions."""
    for name, vector in (named for register, slots in values.items() for named in _by_slot(register, slots)):
        if full:
            _show_all(name, vector)
        elif vector.any():
            click.echo(f"{name}  {_some(vector)}")
    for name, vector in contents.items():
        _show_all(f"mem:{name}", vector)


def _show_all(name: str, vector: np.ndarray) -> None:
    click.echo(f"{name} ({len(vector)} elements)")
    width = max((len(str(x)) for x in (vector.min(), vector.max())), default=1) if len(vector) else 1
    for start in range(0, len(vector), PER_LINE):
        numbers = " ".join(f"{x:>{width}}" for x in vector[start : start + PER_LINE])
        click.echo(f"  {start:>6}: {numbers}")
