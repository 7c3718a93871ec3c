"""All 256 bytes through the decoder."""

import cocotb
import numpy as np
from support import cycle, start

from trilobit.isa.trits import unpack


@cocotb.test()
async def decodes_every_byte(dut):
    """Also the 13 that no packer writes, as trilobit.isa.trits defines them."""
    await start(dut)
    for byte in range(256):
        dut.byte.value = byte
        await cycle(dut)
        digits = int(dut.digits.value)
        trits = [(digits >> 2 * row & 3) - 1 for row in range(5)]
        assert trits == unpack(np.array([[byte]], dtype=np.uint8), 5)[:, 0].tolist(), f"byte {byte}"
