"""The SDRAM's timing model against the controller's RTL (Amaranth's simulator), cycle by cycle, on random requests."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from trilobit.errors import ConfigError
from trilobit.hdl.sdram import SdramController
from trilobit.hdl.sdram_chip import load_sdram_chip
from trilobit.isa.core import load_core
from trilobit.sim.memory import SdramModel, load_memory, parse_memory

sys.path.insert(0, str(Path(__file__).resolve().parent))
from memory_support import library

CYCLES = 4000
OUTPUTS = ("rd_ready", "rdata_valid", "wr_ready", "wdata_ready", "wresp_valid")


def drive_controller(rng, controller, beat_bytes):
    """Random, legal requests: what was asked and what was driven in each cycle from the controller's first ready one."""
    asks, drives = np.zeros((CYCLES, 5), dtype=np.uint64), np.zeros(CYCLES, dtype=np.uint64)
    mem = controller.mem

    async def bench(ctx):
        while not ctx.get(controller.ready):
            await ctx.tick()
        read = write = None  # offered: address, beats
        to_write, answered = 0, True
        busy = 1.0  # how eagerly requests come; phases of a sequential stream, of scattered requests, of rest
        streaming, next_addr = True, 0
        for t in range(CYCLES):
            if t % 500 == 0:
                busy, streaming = float(rng.choice([1.0, 1.0, 0.2, 0.02])), bool(rng.integers(2))
            if read is None and rng.random() < busy:
                beats = 16 if streaming else int(rng.integers(1, 17))
                read = (next_addr if streaming else int(rng.integers(1 << 14)) * beat_bytes, beats)
                next_addr = read[0] + beats * beat_bytes
            if write is None and to_write == 0 and answered and rng.random() < busy / 8:
                write = (int(rng.integers(1 << 14)) * beat_bytes, int(rng.integers(1, 40)))
            data = to_write > 0 and bool(rng.random() < 0.8)
            for name, value in {"rd_valid": read is not None, "rd_addr": (read or (0, 1))[0], "rd_len": (read or (0, 1))[1] - 1,
                                "wr_valid": write is not None, "wr_addr": (write or (0, 1))[0], "wr_len": (write or (0, 1))[1] - 1,
                                "wdata_valid": data}.items():  # fmt: skip
                ctx.set(getattr(mem, name), value)
            asks[t] = [(read is not None) | (write is not None) << 1 | data << 2, *(read or (0, 1)), *(write or (0, 1))]
            out = [ctx.get(getattr(mem, name)) for name in OUTPUTS]
            drives[t] = sum(bit << k for k, bit in enumerate(out))
            if read is not None and out[0]:
                read = None
            if data and out[3]:
                to_write -= 1
            if write is not None and out[2]:
                to_write, write, answered = write[1], None, False
            if out[4]:
                answered = True
            await ctx.tick()

    simulator = Simulator(controller)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return asks, drives


@pytest.mark.parametrize(("preset", "mhz", "cas", "io"), [("ulx3s", 60.0, 3, 10), ("tiny", 50.0, 2, 1), ("axi512", 66.0, 3, 0)])
def test_every_cycle_is_the_controllers(rng, preset, mhz, cas, io):
    config = load_core(preset)
    controller = SdramController(config, load_sdram_chip("ulx3s"), clock_mhz=mhz, cas_latency=cas, io_latency=io, init_clocks=3)
    asks, drives = drive_controller(rng, controller, config.beat_bytes)
    model = SdramModel(name="test", chip="ulx3s", cas_latency=cas, io_latency=io, write_queue_beats=config.burst_beats, sources=("here",))
    got = np.zeros(CYCLES, dtype=np.uint64)
    parameters = model.parameters(mhz)
    assert library().replay_memory(ctypes.byref(parameters), ctypes.c_uint32(config.beat_bytes), ctypes.c_void_p(asks.ctypes.data),
                                   ctypes.c_uint64(CYCLES), ctypes.c_void_p(got.ctypes.data))  # fmt: skip
    different = np.flatnonzero((got & 31) != drives)
    assert not len(different), (
        f"cycle {different[0]}: the controller drives {int(drives[different[0]]):05b}, the model {int(got[different[0]]) & 31:05b}"
    )
    assert (drives >> 1 & 1).sum() > CYCLES / 5 / config.beat_bytes and (drives >> 4 & 1).sum() > 1, "beats were read and writes answered"
    # Beats come in the order of their requests, from their addresses.
    taken = asks[(asks[:, 0] & drives & 1) == 1]
    expected = [int(addr) + config.beat_bytes * k for addr, beats in taken[:, 1:3] for k in range(int(beats))]
    beats = got[(got >> 1 & 1) == 1] >> 5
    assert beats.tolist() == expected[: len(beats)]


def test_the_file_is_checked():
    assert isinstance(parse_memory("sdram"), SdramModel)
    assert parse_memory("sdram").pin_bytes_per_cycle(60) == 4
    text = "{kind: sdram, chip: %s, cas_latency: %s, io_latency: 1, write_queue_beats: 16, sources: [x]}"
    with pytest.raises(ConfigError, match="expected a chip"):
        load_memory("wrong", text % ("none", 3))
    with pytest.raises(ConfigError, match="cas_latency as a whole number"):
        load_memory("wrong", text % ("ulx3s", "x"))
    with pytest.raises(ConfigError, match="CAS latency"):
        load_memory("wrong", text % ("ulx3s", 4)).parameters(60)
    with pytest.raises(ConfigError, match="at most"):
        load_memory("fast", text % ("ulx3s", 3)).parameters(100)
