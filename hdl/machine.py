"""A core of whichever machine its parameters ask for."""

from collections.abc import Sequence

from trilobit.hdl.core import Core
from trilobit.hdl.lean.core import LeanCore
from trilobit.isa.core import CoreConfig

__all__ = ["build_core"]


def build_core(config: CoreConfig, *, gated_clocks: bool = False, debug: bool = True, program: Sequence[int] = ()) -> Core | LeanCore:
    """The core component; both machines have the same ports. A lean core has no clocks of its parts, so ``gated_clocks`` must be False."""
    if config.machine == "lean":
        assert not gated_clocks, "a lean core has one clock"
        return LeanCore(config, debug=debug, program=program)
    return Core(config, gated_clocks=gated_clocks, debug=debug, program=program)
