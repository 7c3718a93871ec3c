"""The host link on both simulators, and its tables against the reference page."""

from pathlib import Path

import pytest
from support import run_cocotb

from trilobit.hdl.hostlink import HostLink
from trilobit.hdl.link import REGISTERS, REQUEST_MARK, Cause, Operation, crc16, reply_frame, request_frame, split_reply
from trilobit.isa.core import load_core

SIZE, TIMEOUT, DIVISOR = 1536, 300, 77
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "host-link.md"


@pytest.mark.parametrize(
    ("preset", "simulators"),
    [("tiny", ("verilator", "icarus")), pytest.param("axi512", ("verilator",), marks=pytest.mark.slow)],
)
def test_hostlink_does_or_refuses(preset, simulators, seed):
    link = HostLink(load_core(preset), memory_size=SIZE, timeout=TIMEOUT, divisor=DIVISOR, clock_hz=60_000_000)
    env = {"PRESET": preset, "SIZE": SIZE, "TIMEOUT": TIMEOUT, "DIVISOR": DIVISOR}
    run_cocotb(link, "hostlink", "cocotb_hostlink", env=env, simulators=simulators, seed=seed)


def test_the_crc_is_the_documented_one():
    """Check value of CRC-16 with polynomial 0x1021 from 0xFFFF ("CCITT-FALSE")."""
    assert crc16(b"123456789") == 0x29B1


def test_frames_come_back(rng):
    for size in (0, 1, 264):
        payload = rng.bytes(size)
        frame = reply_frame(200, Cause.BUSY, payload)
        assert split_reply(frame) == (200, Cause.BUSY, payload)
        assert all(split_reply(frame[:k]) is None for k in range(len(frame)))
        damaged = bytearray(frame)
        damaged[-1] ^= 0x10
        with pytest.raises(ValueError, match="CRC fits"):
            split_reply(bytes(damaged))
    with pytest.raises(ValueError, match="starts with 0x74, got 0x0"):
        split_reply(b"\0")
    with pytest.raises(ValueError, match="at most 264 bytes, got 265"):
        request_frame(0, Operation.WRITE_MEMORY, 0, bytes(257))
    assert request_frame(3, Operation.POP_TOKENS)[:5] == bytes([REQUEST_MARK, 3, 7, 0, 0])


def test_the_page_lists_every_operation_cause_and_register():
    lines = PAGE.read_text().splitlines()
    for operation in Operation:
        assert any(line.startswith(f"| {operation.value} | `{operation.name.lower()}` |") for line in lines), operation
    for cause in Cause:
        assert any(line.startswith(f"| {cause.value} | `{cause.name.lower()}` |") for line in lines), cause
    for r in REGISTERS.values():
        assert f"| {r.number} | `{r.name}` | {r.width} | {r.access} | {r.text} |" in lines, r
