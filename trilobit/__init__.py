"""Trilobit: a MatMul-free language model from PyTorch to an FPGA."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """``trilobit.compile``, loaded when it is used: importing the package stays cheap."""
    if name == "compile":
        from trilobit.assembler.compiler import compile_model

        return compile_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
