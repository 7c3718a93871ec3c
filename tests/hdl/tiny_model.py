"""A model of a few hundred weights, and how a host loads and runs it; for benches with a host link."""

import numpy as np
from link_driver import LinkDriver

from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program, Region
from trilobit.isa.segments import matrix_segment, scalar_of
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack

__all__ = ["language_model", "load", "run"]


async def load(link: LinkDriver, config: CoreConfig, program: Program) -> None:
    """Memory, program and settings, as a driver would."""
    for region in program.regions.values():
        await link.write_memory(region.addr, region.data + bytes(-len(region.data) % config.beat_bytes))
    await link.write_program(program.code)
    for name, value in [("window_size", program.window_size), ("write_start", program.write_start), ("eos", 0xFFFFFF),
                        ("limit", 0xFFFFFFFF), ("program_length", len(program.code))]:  # fmt: skip
        await link.write(name, value)


async def run(link: LinkDriver) -> tuple[list[int], int]:
    """Start, then poll until the core has halted or faulted; the tokens and the last status."""
    await link.write("control", 1)
    tokens = []
    for _ in range(1000):
        status = await link.read("status")
        tokens += await link.pop()
        if status & 2 or status >> 8 & 0xF:  # between running and halted, what was fetched ahead still comes in
            return tokens + await link.pop(), status
    raise AssertionError("the core did not stop")


def language_model(rng, config: CoreConfig, length: int) -> Program:
    """A token in, a token out, until a stop: embedding row, quantisation, one ternary product, argmax, emit; prompt tokens first."""
    n = vocabulary = length
    align = max(config.beat_bytes, 16)
    trits = rng.integers(-1, 2, (vocabulary, n)).astype(np.int8)
    stream = matrix_segment(pack(trits), vocabulary, scalar_of(0.01), config.beat_bytes)
    beats = len(stream) // config.beat_bytes
    stream += bytes(-len(stream) % align)
    table = rng.integers(-3000, 3000, (vocabulary, n)).astype("<i2").tobytes()
    code = [ISA.encode(name, **fields) for name, fields in [
        ("wait", {}),
        ("stream", {"addr": 0, "beats": beats}),  # 1
        ("emb", {"vd": 0, "addr": len(stream), "len": n, "pitch": 2 * n, "rows": vocabulary}),
        ("normq", {"act": 0, "va": 0, "sc": 0, "len": n}),
        ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": vocabulary, "bp": 0}),
        ("argmax", {"va": 1, "len": vocabulary, "base": 0, "first": 1, "last": 1}),
        ("poll", {}),
        ("bprompt", {"target": 1}),
        ("emit", {}),
        ("bdone", {"target": 11}),
        ("jump", {"target": 1}),
        ("sv", {"va": 1, "addr": len(stream) + len(table), "len": vocabulary}),  # 11
        ("halt", {}),
    ]]  # fmt: skip
    start_of_results = len(stream) + len(table)
    size = start_of_results + 2 * vocabulary
    regions = {
        "stream": Region(name="stream", addr=0, size=len(stream), data=stream),
        "table": Region(name="table", addr=len(stream), size=len(table), data=table),
    }
    return Program("tokens", code, size, start_of_results, regions)
