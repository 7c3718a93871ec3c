"""The SDRAM on a controller's pins, as a cocotb coroutine."""

import os

import cocotb
from cocotb.triggers import FallingEdge
from sdram_device import Inputs, SdramDevice

from trilobit.hdl.sdram_chip import SdramChip

__all__ = ["SdramModel", "from_environment"]


class SdramModel(SdramDevice):
    """Serves the ``prefix`` signals of SdramPins: two edges of the chip in each cycle of the clock.

    Data of a read in the first half of cycle c stand on ``dq_i`` at the half cycle 2c + cas_latency + io_latency and the one after it.
    ``core_mhz`` is the clock's frequency, half the chip's. Bits that the chip doesn't drive are noise if there are random numbers.
    """

    def __init__(self, dut, chip: SdramChip, *, core_mhz: float, cas_latency: int, io_latency: int = 0, prefix: str = "pins__",
                 init_ns: float | None = None, rng=None):  # fmt: skip
        super().__init__(chip, 2 * core_mhz, cas_latency=cas_latency, init_ns=init_ns)
        self.dut, self.io_latency, self.rng = dut, io_latency, rng
        self.pin = {name: getattr(dut, prefix + name) for name in ("clk_en", "cs", "ras", "cas", "we", "ba_0", "ba_1", "a_0", "a_1", "dqm",
                                                                   "dq_o", "dq_oe", "dq_i")}  # fmt: skip
        self.delayed: dict[int, int | None] = {}
        self.task = cocotb.start_soon(self._run())

    def _halves(self) -> list[Inputs]:
        get = {name: int(pin.value) for name, pin in self.pin.items() if name not in ("dq_i", "a_0", "a_1", "ba_0", "ba_1", "dq_o")}
        halves = []
        for k in (0, 1):
            inputs = Inputs(cs=get["cs"] >> k & 1, ras=get["ras"] >> k & 1, cas=get["cas"] >> k & 1, we=get["we"] >> k & 1, ba=0, a=0,
                            dqm=get["dqm"] >> 2 * k & 3, driven=bool(get["dq_oe"]), clk_en=get["clk_en"])  # fmt: skip
            if inputs.cs:
                inputs.ba, inputs.a = int(self.pin[f"ba_{k}"].value), int(self.pin[f"a_{k}"].value)
            if inputs.driven:
                inputs.dq = int(self.pin["dq_o"].value) >> 16 * k & 0xFFFF
            halves.append(inputs)
        return halves

    async def _run(self):
        # Pins follow from registers alone, so the middle of the cycle is as good as its end.
        driven = False
        while True:
            await FallingEdge(self.dut.clk)
            for inputs in self._halves():
                known = set(self.answers)
                self.edge(inputs)
                self.delayed |= {t + self.io_latency: word for t, word in self.answers.items() if t not in known}
            words = [self.delayed.pop(self.now - 2 + k, None) for k in (0, 1)]
            if self.rng is not None or driven or words != [None, None]:
                noise = [int(x) for x in self.rng.integers(0, 1 << 16, 2)] if self.rng is not None else [0xDEAD, 0xDEAD]
                low, high = (n if w is None else w for n, w in zip(noise, words, strict=True))
                self.pin["dq_i"].value = high << 16 | low
                driven = words != [None, None]


def from_environment(dut, chip: SdramChip, **arguments) -> SdramModel:
    """A model with the clock and latencies that the test's environment names."""
    return SdramModel(dut, chip, core_mhz=float(os.environ["MHZ"]), cas_latency=int(os.environ["CAS"]),
                      io_latency=int(os.environ["IO"]), **arguments)  # fmt: skip
