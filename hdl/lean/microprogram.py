"""The lean core's whole microprogram, made for a core's parameters."""

from trilobit.hdl.lean.code_control import control
from trilobit.hdl.lean.code_norm import norms
from trilobit.hdl.lean.code_rowwise import rowwise
from trilobit.hdl.lean.micro import MicroProgram
from trilobit.isa.core import CoreConfig

__all__ = ["microprogram"]


def microprogram(config: CoreConfig) -> MicroProgram:
    """All instructions of the ISA; the machine begins at microinstruction 0."""
    u = MicroProgram()
    control(u, config)
    rowwise(u)
    norms(u)
    return u
