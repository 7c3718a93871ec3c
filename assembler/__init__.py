"""Assembler, disassembler, and the compiler from model graphs to programs and memory images."""

from trilobit.assembler.asm import Assembly, assemble, assemble_file, assemble_source
from trilobit.assembler.disasm import disassemble
from trilobit.assembler.listing import listing

__all__ = ["Assembly", "assemble", "assemble_file", "assemble_source", "disassemble", "listing"]
