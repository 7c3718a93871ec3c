"""How the open tools take every design on an ECP5: a core or a unit out of context, and a board's whole top."""

__all__ = ["PLACEMENT", "SYNTHESIS", "synthesis_script", "top_files"]

SYNTHESIS = ("-nowidelut",)
"""Options of ``synth_ecp5``. No PFU multiplexers: they tie LUTs together, which costs more LUTs, and more time on the wires."""
PLACEMENT = ("--placer-heap-timingweight", "30")
"""Options of nextpnr: how much its placer cares for timing. The ulx3s core routed at 54.5 and 51.3 MHz with its default of 10 (seeds 1 and
2), at 57.2 and 62.3 MHz with 30."""


def synthesis_script(top: str, source: str = "top.v", netlist: str = "top.json") -> str:
    """Commands for Yosys, from a Verilog file to a netlist for nextpnr."""
    return f"read_verilog {source}; synth_ecp5 {' '.join(SYNTHESIS)} -top {top} -json {netlist}"


def top_files(board, component, top: str, **options) -> dict[str, str]:
    """What Amaranth writes for a board's top, by name: ``TOP.v`` instead of its RTLIL, constraints, scripts.

    Args:
        board: with platform and placement seed. options: more of the platform's build.
    """
    from trilobit.hdl.verilog import lint_waived

    plan = board.make_platform().build(component, name=top, do_build=False, emit_src=False, debug_verilog=True,
                                       nextpnr_opts=[*PLACEMENT, "--seed", str(board.seed)], **options)  # fmt: skip
    files = {path: text.decode() if isinstance(text, bytes) else text for path, text in plan.files.items()}
    del files[f"{top}.il"]
    files[f"{top}.v"] = lint_waived(files.pop(f"{top}.debug.v"))
    return files
