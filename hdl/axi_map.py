"""The registers behind AXI4-Lite as data. No hardware in here.

The hardware (:mod:`trilobit.hdl.axi_registers`), the descriptions for other flows (:mod:`trilobit.hdl.ip`) and the driver
(:mod:`trilobit.host.axi`) use this table.
"""

from dataclasses import dataclass

from trilobit.hdl.link import REGISTERS

__all__ = ["AXI_MAP", "COUNTER_CLOCKS", "LINK_ONLY", "LITE_ADDRESS_BITS", "AxiRegister"]

LITE_ADDRESS_BITS = 10
BLOCK = 0x100  # where the registers that the serial link has begin, 8 bytes each
LINK_ONLY = ("baud_divisor",)
COUNTER_CLOCKS = 64
"""Clocks from a write of ``counter_select`` until ``counter`` shows the selected one; trilobit.hdl.counters has the reason."""


@dataclass(frozen=True)
class AxiRegister:
    """A 32-bit word, or two (low first): byte offset, name, bits, access ("rw", "any", "ro", "wo": as in hdl/link.py), one line."""

    offset: int
    name: str
    width: int
    access: str
    text: str


AXI_MAP: dict[str, AxiRegister] = {
    r.name: r
    for r in [
        AxiRegister(0x000, "id", 32, "ro", "TRLB in ASCII, T in the low byte"),
        AxiRegister(0x004, "version", 32, "ro", "bytes: protocol version, ISA version, beat_bytes - 1, lanes - 1"),
        AxiRegister(0x008, "window_base", 64, "rw", "address of the memory window on the AXI4 port; a multiple of 4096"),
        AxiRegister(0x010, "program_address", 16, "rw", "instruction word that the next write of program_data_3 writes; counts up with it"),
        *(AxiRegister(0x020 + 4 * k, f"program_data_{k}", 32, "wo", f"bits {32 * k} to {32 * k + 31} of an instruction word"
                      + ("; writing it writes the word" if k == 3 else "")) for k in range(4)),
        AxiRegister(0x040, "push_token", 24, "wo", "a prompt token for the core's queue; an error response if there is no room"),
        AxiRegister(0x044, "pop_token", 32, "ro", "takes a token: bit 31 there was one, bits 0-23 the token"),
        *(AxiRegister(BLOCK + 8 * r.number, r.name, r.width, r.access, r.text) for r in REGISTERS.values() if r.name not in LINK_ONLY),
    ]
}  # fmt: skip
"""Every register by name; offsets in bytes. Of a register of two words the high one lies 4 bytes behind the low one."""
