"""The signals between the parts of the core, in one place.

Conventions: a ``valid``/``ready`` pair transfers in a cycle in which both are high; ``valid`` never depends on ``ready``.
Word k of a vector register holds elements ``k*lanes .. (k+1)*lanes - 1``, element 0 in the low bits, 32 bits each.

With ``batch`` B above 1 everything that holds data exists B times: a word holds those elements of slot 0 in its lowest
``lanes * 32`` bits, then those of slot 1, and so on; control, addresses, lengths and masks exist once and count for every slot.
"""

import enum

from amaranth.hdl import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trilobit.isa.core import CoreConfig
from trilobit.isa.counters import COUNTERS
from trilobit.isa.spec import ISA

__all__ = ["ActReadSignature", "ActWriteSignature", "CommandSignature", "Fault", "GainSignature", "HeaderLayout", "MemorySignature",
           "ReadSignature", "RetireSignature", "ScalarLayout", "WriteSignature", "core_ports", "decode", "of_slot"]  # fmt: skip

ELEMENT_BITS = 32
GAIN_BITS = 16
TOKEN_BITS = 24
EXPONENT_BITS = 10


class Fault(enum.IntEnum):
    """Why the core stopped; codes as in docs/decisions/0001-machine.md."""

    NONE = 0
    BAD_OPCODE = 1
    LENGTH = 2
    ADDRESS = 3
    READ_ONLY = 4
    SEGMENT = 5
    MEMORY = 6
    TOKEN = 7
    PROGRAM_COUNTER = 8


class ScalarLayout(data.StructLayout):
    """``mantissa * 2**exponent``, as :class:`trilobit.isa.fixed.Scalar`."""

    def __init__(self):
        super().__init__({"mantissa": 18, "exponent": signed(EXPONENT_BITS)})


class HeaderLayout(data.StructLayout):
    """A parsed segment header and the address of its first byte (offset in the window)."""

    def __init__(self):
        super().__init__({"addr": 40, "rows": 16, "columns": 16, "scale": ScalarLayout()})


def of_slot(name: str, slot: int) -> str:
    """The name of a slot's signal or submodule; slot 0 has the plain name, which a core of batch 1 has."""
    return f"{name}_slot{slot}" if slot else name


def decode(word, name: str):
    """The bits of one field of a 128-bit instruction word, signed if the field is."""
    field = ISA.fields[name]
    bits = word[field.lo : field.lo + field.width]
    return bits.as_signed() if field.signed else bits


class CommandSignature(wiring.Signature):
    """An instruction handed to a unit (from the program counter's side): the whole word, its pc.

    The core raises ``valid`` only when the registers' ports are free; the unit's ``ready`` means that it can begin now. The unit must
    latch what it needs in the cycle of the transfer. Fields are taken with :func:`decode`.
    """

    def __init__(self):
        super().__init__({"valid": Out(1), "ready": In(1), "word": Out(ISA.word_bits), "pc": Out(16)})


class RetireSignature(wiring.Signature):
    """One cycle of ``valid`` when an instruction has written its last result; at most one a unit a cycle, in the unit's order."""

    def __init__(self):
        super().__init__({"valid": Out(1), "pc": Out(16)})


class ReadSignature(wiring.Signature):
    """A unit's read port into the register file.

    ``reg`` and ``addr`` (word index; the register counts for itself) are driven by the unit; ``ok`` answers in the same cycle whether
    this word may be read now (RAW).
    A unit that reads several registers in step raises ``en`` on all of them only if all are ok. ``data`` follows in the next cycle
    and holds until the next read of that register. A unit reads words 0, 1, 2, ... once each; after the last word (ceil(len/lanes)) the
    port is returned and may be lent on at once, so a unit keeps its own copy if it needs that word for more than one cycle.
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "reg": Out(3), "addr": Out(range(config.words)), "en": Out(1), "ok": In(1),
            "data": In(config.word_elements * ELEMENT_BITS),
        })  # fmt: skip


class WriteSignature(wiring.Signature):
    """A unit's write port into the register file.

    ``chk_reg`` asks whether that register may be written (WAR: its older reader has finished); ``ok`` answers in the same cycle and stays
    true for that instruction. ``chk_addr``, the word that the unit is about to let into its pipeline, is not looked at.
    ``en`` writes the lanes in ``mask``, of every slot, of word ``addr`` of ``reg`` at the end of the cycle. Words are written in order
    0, 1, 2, ...
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "chk_reg": Out(3), "chk_addr": Out(range(config.words)), "ok": In(1),
            "reg": Out(3), "addr": Out(range(config.words)), "en": Out(1), "mask": Out(config.lanes),
            "data": Out(config.word_elements * ELEMENT_BITS),
        })  # fmt: skip


class ActWriteSignature(wiring.Signature):
    """The norm unit's side of the activation buffers.

    ``ok`` says that buffer ``buf`` may be written (no older product reads it). ``start`` (with ``ok``) sets its scale and length and
    empties it; ``en`` then writes int8 lanes of words 0, 1, 2, ... (element 0 low; elements beyond the length are written as zero).
    Slot b has a scale of its own, ``scale[b]``, and bits ``b*lanes*8 .. (b+1)*lanes*8 - 1`` of ``data``; the length is one for all.
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "buf": Out(1), "ok": In(1), "start": Out(1), "scale": Out(data.ArrayLayout(ScalarLayout(), config.batch)), "length": Out(16),
            "en": Out(1), "addr": Out(range(config.words)), "data": Out(config.word_elements * 8),
        })  # fmt: skip


class ActReadSignature(wiring.Signature):
    """The product's side of the activation buffers.

    ``beat`` selects ``beat_bytes`` int8 activations of buffer ``buf``; ``ok`` answers in the same cycle whether they are there;
    ``data`` follows ``en`` by one cycle; columns from ``length`` up to the end of the last beat read as don't-care (their trits are zero).
    ``scale_ok`` says that ``scale`` and ``length`` belong to the instruction that reads. ``release`` (one cycle) returns the buffer.
    Slot b has ``scale[b]`` and bits ``b*beat_bytes*8 .. (b+1)*beat_bytes*8 - 1`` of ``data``.
    """

    def __init__(self, config: CoreConfig):
        beats = -(-config.max_length // config.beat_bytes)
        super().__init__({
            "buf": Out(1), "beat": Out(range(max(beats, 2))), "en": Out(1), "ok": In(1),
            "data": In(config.batch * config.beat_bytes * 8), "scale_ok": In(1),
            "scale": In(data.ArrayLayout(ScalarLayout(), config.batch)), "length": In(16), "release": Out(1),
        })  # fmt: skip


class GainSignature(wiring.Signature):
    """Gains for the norm unit, from the gain buffer (the unit is the consumer).

    A segment's length is offered first on ``length`` while ``segment_valid``; ``segment_ready`` takes it. Then words of ``lanes`` gains are
    offered on ``data`` while ``valid``; ``ready`` takes one. ceil(length/lanes) words belong to the segment, without its padding.
    Every slot has the same gains.
    """

    def __init__(self, config: CoreConfig):
        super().__init__({
            "segment_valid": Out(1), "segment_ready": In(1), "length": Out(16),
            "valid": Out(1), "ready": In(1), "data": Out(config.lanes * GAIN_BITS),
        })  # fmt: skip


class MemorySignature(wiring.Signature):
    """The memory port (the core is the initiator). Byte addresses are offsets in the window, multiples of beat_bytes.

    Reads: ``rd_valid/ready`` with ``rd_addr`` and ``rd_len`` (beats minus one); data comes back in request order, a beat in each cycle with
    ``rdata_valid``; the core always takes it. ``rdata_error`` marks a failed beat.
    Writes: ``wr_valid/ready`` with ``wr_addr`` and ``wr_len``, then exactly wr_len+1 beats on ``wdata_valid/ready`` (a strobe a byte),
    then one ``wresp_valid`` (with ``wresp_error``). At most one write request is in flight; wdata is offered after it was taken.
    """

    def __init__(self, config: CoreConfig):
        n = config.beat_bytes
        super().__init__({
            "rd_valid": Out(1), "rd_ready": In(1), "rd_addr": Out(40), "rd_len": Out(8),
            "rdata_valid": In(1), "rdata": In(8 * n), "rdata_error": In(1),
            "wr_valid": Out(1), "wr_ready": In(1), "wr_addr": Out(40), "wr_len": Out(8),
            "wdata_valid": Out(1), "wdata_ready": In(1), "wdata": Out(8 * n), "wdata_strobe": Out(n),
            "wresp_valid": In(1), "wresp_error": In(1),
        })  # fmt: skip


def core_ports(config: CoreConfig) -> dict:
    """The ports of a core of either machine, as :class:`trilobit.hdl.core.Core` describes them; with a batch there are more."""
    return {
        "mem": Out(MemorySignature(config)),
        "prog_en": In(1), "prog_addr": In(16), "prog_data": In(ISA.word_bits), "program_length": In(16), "start": In(1),
        "window_size": In(40), "write_start": In(40), "eos": In(24), "limit": In(32),
        "seed": In(32), "temperature_m": In(16), "temperature_e": In(signed(EXPONENT_BITS)),
        "prompt_valid": In(1), "prompt_ready": Out(1), "prompt_token": In(TOKEN_BITS),
        "out_valid": Out(1), "out_ready": In(1), "out_token": Out(TOKEN_BITS),
        "running": Out(1), "halted": Out(1), "waiting": Out(1), "fault": Out(4), "fault_pc": Out(16),
        "retire_valid": Out(5), "retire_pc": Out(80), "issue_valid": Out(1), "issue_pc": Out(16),
        "dbg_reg": In(3), "dbg_addr": In(16), "dbg_data": Out(config.word_elements * ELEMENT_BITS),
        "counter_select": In(6), "counter_value": Out(48),
        "events": Out(len(COUNTERS) - 1), "stream_level": Out(range(config.weight_fifo_beats + 2)),
    }  # fmt: skip
