"""The host link's protocol as data: frames, operations, causes and the register block. No hardware in here.

The hardware (:mod:`trilobit.hdl.hostlink`), the tests and every driver use these tables; docs/reference/host-link.md lists them.

A request is ``0x54, sequence, operation, length (2 bytes), payload, CRC (2 bytes)``; a reply is the same with 0x74 and a
:class:`Cause` in the place of the operation. Numbers are little-endian. The CRC-16 has polynomial 0x1021 and starts from 0xFFFF
(``binascii.crc_hqx``), over everything from the sequence number to the end of the payload.
"""

import binascii
import enum
from dataclasses import dataclass

__all__ = ["BREAK_BITS", "LOWEST_DIVISOR", "MAX_DATA", "MAX_PAYLOAD", "MAX_TOKENS", "PROTOCOL_VERSION", "REGISTERS", "REPLY_MARK",
           "REQUEST_MARK", "Cause", "Operation", "Register", "crc16", "reply_frame", "request_frame", "split_reply"]  # fmt: skip

PROTOCOL_VERSION = 2
REQUEST_MARK, REPLY_MARK = 0x54, 0x74
ARGUMENT_BYTES = 8
MAX_DATA = 256
"""Bytes of memory or of the program in one frame."""
MAX_PAYLOAD = ARGUMENT_BYTES + MAX_DATA
MAX_TOKENS = MAX_DATA // 4
"""Tokens in one reply."""
HEADER_BYTES, CRC_BYTES = 5, 2
LOWEST_DIVISOR = 4
BREAK_BITS = 30
"""Bits, at the divisor after reset, that a break lasts at least."""


class Operation(enum.IntEnum):
    """What a request asks for. All but ``identify`` and ``pop_tokens`` begin their payload with an argument of 8 bytes."""

    IDENTIFY = 0
    WRITE_MEMORY = 1
    READ_MEMORY = 2
    WRITE_PROGRAM = 3
    WRITE_REGISTER = 4
    READ_REGISTER = 5
    PUSH_TOKEN = 6
    POP_TOKENS = 7
    CHECKSUM = 8


class Cause(enum.IntEnum):
    """The second byte of a reply: done, or why the request was refused."""

    DONE = 0
    CRC = 1
    LENGTH = 2
    TIMEOUT = 3
    OPERATION = 4
    ADDRESS = 5
    BUSY = 6
    VALUE = 7
    FULL = 8
    MEMORY = 9


@dataclass(frozen=True)
class Register:
    """A register of the block.

    Attributes:
        number: what requests name it by.
        name: for people and for :data:`REGISTERS`.
        width: bits; a value with higher bits set is refused.
        access: "rw", "any", "ro" or "wo"; "rw" is refused (busy) while the core runs, "any" is not.
        text: one line.
    """

    number: int
    name: str
    width: int
    access: str
    text: str


REGISTERS = {
    name: Register(number, name, width, access, text)
    for number, (name, width, access, text) in enumerate([
        ("status", 32, "ro", "bit 0 running, 1 halted, 2 waiting for a prompt token, 3 a token can be popped, 4 a token can be pushed, "
                             "5 memory ready, 6 core in reset; bits 8-11 fault, 16-31 pc of the fault"),
        ("control", 2, "wo", "bit 0 starts the program (busy while it runs, or the core is in reset), bit 1 resets the core"),
        ("window_size", 40, "rw", "bytes of the memory window, which starts at byte 0 of the memory"),
        ("write_start", 40, "rw", "first byte that stores may change"),
        ("seed", 32, "rw", "key of the Gumbel noise"),
        ("temperature_m", 16, "rw", "mantissa of 1/(T ln 2), 0 for greedy"),
        ("temperature_e", 10, "rw", "its exponent, two's complement"),
        ("eos", 24, "rw", "token that ends the sequence"),
        ("limit", 32, "rw", "emitted tokens at which bdone branches"),
        ("program_length", 16, "rw", "instruction words of the program"),
        ("counter_select", 6, "any", "which counter the next register reads, in the order of hdl/counters.py; also while the core runs"),
        ("counter", 48, "ro", "the selected performance counter"),
        ("memory_size", 41, "ro", "bytes of the board's memory"),
        ("program_words", 17, "ro", "instruction words that the core holds"),
        ("max_length", 16, "ro", "elements of a vector register"),
        ("baud_divisor", 16, "any", "clocks a bit of the line, 4 at least, from after the reply on; a break on the line brings the "
                                    "first one back"),
        ("clock_hz", 32, "ro", "the clock that the board was built for, in Hz; 0 if nobody knows"),
    ])
}  # fmt: skip
"""Every register by name, in the order of their numbers."""


def crc16(data: bytes) -> int:
    """The CRC of a frame's bytes from the sequence number to the end of the payload."""
    return binascii.crc_hqx(data, 0xFFFF)


def _frame(mark: int, sequence: int, code: int, payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"expected a payload of at most {MAX_PAYLOAD} bytes, got {len(payload)}")
    body = bytes([sequence, code]) + len(payload).to_bytes(2, "little") + payload
    return bytes([mark]) + body + crc16(body).to_bytes(2, "little")


def request_frame(sequence: int, operation: Operation, argument: int | None = None, data: bytes = b"") -> bytes:
    """The bytes of a request.

    Args:
        sequence: 0 to 255; different from the one before, unless the request is a repetition of it.
        operation: what to do.
        argument: byte address, word index, register number or token; None for the operations without one.
        data: what follows the argument.

    Raises:
        ValueError: the payload is longer than :data:`MAX_PAYLOAD`.
    """
    head = b"" if argument is None else argument.to_bytes(ARGUMENT_BYTES, "little")
    return _frame(REQUEST_MARK, sequence, operation, head + data)


def reply_frame(sequence: int, cause: Cause, payload: bytes = b"") -> bytes:
    """The bytes of a reply."""
    return _frame(REPLY_MARK, sequence, cause, payload)


def split_reply(data: bytes) -> tuple[int, Cause, bytes] | None:
    """Sequence, cause and payload of a whole reply at the start of ``data``; None if it is not complete yet.

    Raises:
        ValueError: these bytes are no reply, or one whose CRC does not fit.
    """
    if data and data[0] != REPLY_MARK:
        raise ValueError(f"expected a reply that starts with {REPLY_MARK:#x}, got {data[0]:#x}")
    if len(data) < HEADER_BYTES:
        return None
    length = int.from_bytes(data[3:5], "little")
    if length > MAX_PAYLOAD:
        raise ValueError(f"expected a reply of at most {MAX_PAYLOAD} bytes, got a length of {length}")
    end = HEADER_BYTES + length
    if len(data) < end + CRC_BYTES:
        return None
    if crc16(data[1:end]) != int.from_bytes(data[end : end + CRC_BYTES], "little"):
        raise ValueError("expected a reply whose CRC fits, got a damaged one; repeat the request with the same sequence number")
    return data[1], Cause(data[2]), bytes(data[HEADER_BYTES:end])
