"""A small compiled model on the core: its logits against the PyTorch reference's, position by position."""

import os

import cocotb
import numpy as np
from cocotb_core import CONFIG, Machine
from support import step

from trilobit.assembler.bundle import load_bundle, teacher_forced

TOKENS = [int(t) for t in os.environ["TOKENS"].split(",")]


@cocotb.test()
async def logits_follow_the_reference(dut):
    """Teacher-forced: every token comes from the host, and the logits it leads to are read from memory."""
    bundle = load_bundle(os.environ["BUNDLE"])
    program = teacher_forced(bundle.program)
    where = bundle.manifest.logits
    reference = np.load(os.environ["REFERENCE"], allow_pickle=False)
    machine = await Machine.boot(dut, program, memory=bundle.memory(), registers=np.zeros((8, CONFIG.max_length), dtype=np.int64))
    dut.start.value = 1
    await step(dut)
    dut.start.value = 0
    cosines = []
    for position, token in enumerate(TOKENS):
        dut.prompt_token.value, dut.prompt_valid.value = token, 1
        await step(dut)
        dut.prompt_valid.value = 0
        await step(dut, 3)
        await machine.until_waiting()
        logits = machine.memory.data[where.addr : where.addr + 4 * where.length].view("<i4") / 2.0**where.point
        cosines.append(float(logits @ reference[position] / np.linalg.norm(logits) / np.linalg.norm(reference[position])))
        assert int(logits.argmax()) == int(reference[position].argmax()) or cosines[-1] > 0.999
    dut._log.info(f"cosine of logits: {min(cosines):.6f} at worst of {len(cosines)} positions")
    assert min(cosines) >= 0.999, cosines
