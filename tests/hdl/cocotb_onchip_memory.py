"""The on-chip memory against a model of its contents and of the timing that the cycle model assumes."""

import os
from collections import deque

import cocotb
import numpy as np
from support import cycle, random_numbers, start, step

from trilobit.hdl.onchip_memory import LATENCY, OUTSTANDING

N, SIZE, WRITE_START, IMAGE = (int(os.environ[name]) for name in ("BEAT_BYTES", "SIZE", "WRITE_START", "IMAGE"))


class Expected:
    """FixedLatencyMemory of sim/memory_model.h, with data: what the port shows in each cycle."""

    def __init__(self, image: bytes):
        self.data = bytearray(image + bytes(SIZE - len(image)))
        self.now, self.reads = 0, deque()  # [first cycle, address, beats]
        self.left, self.addr, self.respond = 0, 0, None

    def drive(self) -> dict:
        ready = len(self.reads) < OUTSTANDING
        beat = None
        if self.reads and self.now >= self.reads[0][0]:
            read = self.reads[0]
            beat = int.from_bytes(self.data[read[1] : read[1] + N], "little")
            read[1], read[2] = read[1] + N, read[2] - 1
            if not read[2]:
                self.reads.popleft()
        answers = self.respond is not None and self.now >= self.respond
        pins = {"rd_ready": ready, "rdata_valid": beat is not None, "wr_ready": not self.left and self.respond is None,
                "wdata_ready": self.left > 0, "wresp_valid": answers}  # fmt: skip
        if answers:
            self.respond = None
        return pins | ({"rdata": beat} if beat is not None else {})

    def take(self, pins: dict, ask: dict) -> None:
        if ask["rd_valid"] and pins["rd_ready"]:
            self.reads.append([self.now + LATENCY, ask["rd_addr"], ask["rd_len"] + 1])
        if ask["wdata_valid"] and pins["wdata_ready"]:
            for k in range(N):
                if ask["wdata_strobe"] >> k & 1:
                    self.data[self.addr + k] = ask["wdata"] >> 8 * k & 0xFF
            self.addr, self.left = self.addr + N, self.left - 1
            if not self.left:
                self.respond = self.now + LATENCY
        if ask["wr_valid"] and pins["wr_ready"]:
            self.addr, self.left = ask["wr_addr"], ask["wr_len"] + 1
        self.now += 1


@cocotb.test()
async def answers_as_the_cycle_model_assumes(dut):
    """Random requests: reads anywhere, writes into the part that may be written and never into what is being read."""
    rng = random_numbers()
    await start(dut)
    image = np.random.default_rng(IMAGE).integers(0, 256, SIZE - 3 * N).astype(np.uint8).tobytes()
    expected = Expected(image)
    ask = dict.fromkeys(("rd_valid", "rd_addr", "rd_len", "wr_valid", "wr_addr", "wr_len", "wdata_valid", "wdata", "wdata_strobe"), 0)
    shares = rng.permutation([0.0, 0.0, 0.5, 0.5, 0.95, 0.95]).tolist()  # of idle cycles, in each stretch of 500
    beats = 0
    for t in range(3000):
        idle_share = shares[t // 500]
        writing = expected.left > 0 or expected.respond is not None or ask["wr_valid"]
        if not ask["rd_valid"] and rng.random() >= idle_share:
            count = int(rng.choice([1, 2, int(rng.integers(1, 17))]))
            top = WRITE_START if writing else SIZE // N * N
            ask |= {"rd_valid": 1, "rd_len": count - 1, "rd_addr": int(rng.integers(0, top // N - count + 1)) * N}
        reads_state = ask["rd_valid"] and ask["rd_addr"] + (ask["rd_len"] + 1) * N > WRITE_START
        reads_state = reads_state or any(addr + left * N > WRITE_START for _, addr, left in expected.reads)
        if not writing and not reads_state and rng.random() < 0.05:
            count = int(rng.integers(1, 9))
            room = (SIZE - WRITE_START) // N
            ask |= {"wr_valid": 1, "wr_len": count - 1, "wr_addr": WRITE_START + int(rng.integers(0, room - count + 1)) * N}
        ask["wdata_valid"] = int(expected.left > 0 and rng.random() < 0.7)
        ask["wdata"], ask["wdata_strobe"] = int.from_bytes(rng.bytes(N), "little"), int(rng.integers(0, 1 << N))
        for name, value in ask.items():
            getattr(dut, f"mem__{name}").value = value
        pins = expected.drive()
        await cycle(dut)
        for name, value in pins.items():
            got = getattr(dut, f"mem__{name}").value
            assert got == int(value), f"cycle {t}: expected {name}={int(value):#x}, got {got}"
        assert dut.mem__rdata_error.value == 0 and dut.mem__wresp_error.value == 0
        beats += pins["rdata_valid"]
        expected.take(pins, ask)
        if ask["rd_valid"] and pins["rd_ready"]:
            ask["rd_valid"] = 0
        if ask["wr_valid"] and pins["wr_ready"]:
            ask["wr_valid"] = 0
        await step(dut)
    assert beats > 700, "the requests kept the memory busy"
