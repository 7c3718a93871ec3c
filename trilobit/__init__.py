"""Trilobit: a MatMul-free language model from PyTorch to an FPGA."""

__version__ = "0.1.0"
