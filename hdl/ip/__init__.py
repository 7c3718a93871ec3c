"""The core packaged for other flows: one Verilog file and the descriptions that tools read. All from the ports and the register map."""

from importlib import resources

import jinja2
import numpy as np
from amaranth.lib.wiring import Flow

from trilobit import __version__
from trilobit.hdl.axi_core import AxiCore
from trilobit.hdl.axi_map import AXI_MAP, LITE_ADDRESS_BITS
from trilobit.hdl.verilog import standalone_verilog
from trilobit.isa.core import CoreConfig

__all__ = ["TOP", "environment", "ip_files", "memory_image"]

TOP = "trilobit_axi"
# What a tool calls the files, by template.
_FILES = {
    "component.xml.j2": f"{TOP}.xml", "fusesoc.core.j2": f"{TOP}.core", "hw.tcl.j2": f"{TOP}_hw.tcl",
    "registers.md.j2": "registers.md", "registers.h.j2": f"{TOP}_registers.h",
}  # fmt: skip
_IPXACT_ACCESS = {"rw": "read-write", "any": "read-write", "ro": "read-only", "wo": "write-only"}


def ip_files(config: CoreConfig) -> dict[str, str]:
    """File name -> text of everything that ``trilobit verilog --wrapper axi`` writes for a core.

    ``trilobit_axi.v`` (self-contained Verilog), IP-XACT 1685-2014, a FuseSoC core file (CAPI2), Platform Designer's ``_hw.tcl``, the
    register map for people and as a C header. The descriptions were checked against their forms' rules, not in a vendor's tool.

    Raises:
        ConfigError: a core whose width AXI ports don't have.
    """
    top = AxiCore(config)
    ports = [
        {"name": name, "width": member.shape.width if hasattr(member.shape, "width") else _width(member.shape),
         "direction": "out" if member.flow == Flow.Out else "in"}
        for name, member in top.signature.members.items()
    ]  # fmt: skip
    words = [
        {"offset": r.offset + 4 * high, "name": r.name + ("_high" if high else ""), "width": min(32, r.width - 32 * high),
         "access": r.access, "ipxact": _IPXACT_ACCESS[r.access], "text": r.text}
        for r in AXI_MAP.values() for high in range(1 + (r.width > 32))
    ]  # fmt: skip
    context = {
        "top": TOP, "version": __version__, "core": config, "ports": ports, "words": words, "range": 1 << LITE_ADDRESS_BITS,
        "lite_bits": LITE_ADDRESS_BITS, "manager": _bus(ports, "m_axi_"), "lite": _bus(ports, "s_axi_"),
    }  # fmt: skip
    templates = environment()
    files = {name: templates.get_template(template).render(context) for template, name in _FILES.items()}
    return {f"{TOP}.v": standalone_verilog(top, TOP)} | files


def environment() -> jinja2.Environment:
    """The templates of this folder."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: resources.files("trilobit.hdl.ip").joinpath(name).read_text()),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=lambda name: name is not None and name.endswith(".xml.j2"),
    )  # fmt: skip


def _width(shape) -> int:
    from amaranth.hdl import Shape

    return Shape.cast(shape).width


def _bus(ports: list[dict], prefix: str) -> list[dict]:
    """The ports of a bus with the names that its specification gives them."""
    return [{"port": p["name"], "logical": p["name"].removeprefix(prefix).upper()} for p in ports if p["name"].startswith(prefix)]


def memory_image(memory: np.ndarray, beat_bytes: int) -> str:
    """A memory window ([size] of uint8) as text for Verilog's ``$readmemh``: a beat a line, its first byte in the low bits."""
    padded = np.zeros(-(-len(memory) // beat_bytes) * beat_bytes, dtype=np.uint8)
    padded[: len(memory)] = memory
    return "".join(f"{row.tobytes().hex()}\n" for row in padded.reshape(-1, beat_bytes)[:, ::-1])
