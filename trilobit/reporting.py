"""What ``trilobit report`` says about a compiled bundle, as data: figures, how each is known, and the command that shows it."""

import hashlib
import os
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilobit import __version__
from trilobit.assembler.bundle import MANIFEST, Bundle, load_bundle
from trilobit.bitstreams.kept import core_reports, core_shape
from trilobit.errors import ConfigError
from trilobit.estimating import bundle_subject, figures
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA
from trilobit.machine import commit
from trilobit.power import known_resources, measured_activity, token_power
from trilobit.report_cycles import cycles_by_cause, token_timeline
from trilobit.report_image import image_part, layers_of_code, program_part, vectors_part
from trilobit.sim.geometry import BITS_PER_WEIGHT
from trilobit.story import clock_evidence

__all__ = ["EVIDENCE", "bundle_report"]

EVIDENCE = {
    "measured": "read from RTL simulation, or from a clock on the wall",
    "exact": "from the cycle model, which tests hold equal to the RTL, to the cycle",
    "placed and routed": "by the place-and-route tool; nothing ran on a device",
    "counted": "cells after synthesis, or bits of memory; not placed",
    "estimated": "from assumptions that stand beside it, as a range",
    "quoted": "somebody else's figure, with its source",
}
"""What a badge means; a report shows those that it uses."""

FAMILIES = {"ecp5": "Lattice ECP5", "xc7": "AMD 7 series", "xcup": "AMD UltraScale+", "cyclonev": "Intel Cyclone V"}


def bundle_report(folder: str | Path, *, memory: str = "ideal", clock_mhz: float | None = None,
                  activity: Path | None = None, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:  # fmt: skip
    """What a bundle is, costs and holds.

    Args:
        folder: of the bundle, as the user calls it.
        memory: timing of the memory, as :func:`trilobit.sim.memory.parse_memory` takes it.
        clock_mhz: clock in MHz instead of the core's.
        activity: switching activity measured on the core (:func:`trilobit.power.measured_activity`); without it an assumed range.
        say: told what is being done.

    Returns:
        For ``--json`` and for :func:`trilobit.report_page.page`; docs/how-to/report.md names the keys.

    Raises:
        BundleError: no bundle, or a damaged one.
        ConfigError: no such memory, or activity of another core or of one whose power is not known.
        ProgramError: a program that does not emit token after token.
    """
    say("reading the bundle")
    bundle = load_bundle(folder)
    subject = bundle_subject(bundle, str(folder))
    say("counting cycles")
    found = figures(subject, memory=memory, clock_mhz=clock_mhz)
    say("recording a token")
    timeline = token_timeline(subject, layers_of_code(bundle), memory=memory, clock_mhz=found["clock_mhz"])
    assert subject.image is not None  # a bundle's subject has one
    power = _power(bundle.core, found, activity)
    return {
        "bundle": _identity(bundle, str(folder)), "made": _made(), "headline": _headline(bundle.core, found, power), "evidence": EVIDENCE,
        "estimate": found, "cycles": cycles_by_cause(found), "timeline": timeline,
        "program": program_part(bundle, timeline["in_flight"]), "image": image_part(bundle, subject.image),
        "vectors": vectors_part(bundle), "board": _board(bundle.core, found), "power": power,
        "commands": _commands(str(folder), bundle, found, memory, clock_mhz, power["known"]),
    }  # fmt: skip


def _identity(bundle: Bundle, folder: str) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "folder": folder, "name": manifest.name, "geometry": manifest.geometry, "core": bundle.core.parameters(),
        "weights_per_token": manifest.weights_per_token, "tokenizer": manifest.tokenizer is not None,
        "compiled_by": manifest.trilobit, "isa": manifest.isa,
        "sha256": hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest(), "files": manifest.checksums,
    }  # fmt: skip


def _made() -> dict[str, Any]:
    """When and by what; ``SOURCE_DATE_EPOCH`` (reproducible-builds.org) stands for the time."""
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return {"date": datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds"), "trilobit": __version__, "isa": ISA.version,
            "commit": commit()}  # fmt: skip


def _headline(core: CoreConfig, found: dict[str, Any], power: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures to read first: ``name``, ``value``, ``unit``, ``evidence``, ``text``."""
    each = "token" if core.batch == 1 else "pass"
    together = "" if core.batch == 1 else f" {core.batch} sequences together, {found['tokens_per_second_per_sequence']:.4g} each."
    floor = BITS_PER_WEIGHT * found["ternary_weights_per_token"] / 8 / core.beat_bytes
    memory = "an ideal memory, which answers at once" if found["memory"] == "ideal" else f"memory {found['memory']}"
    rows = [
        ("tokens/s", found["tokens_per_second"], "", "exact",
         f"Exact cycles at {found['clock_mhz']:g} MHz; {clock_evidence(core)}.{together}"),
        (f"cycles a {each}", found["cycles_per_token"], "", "exact",
         f"From one {each}'s embedding to the next one's, with {memory}."),
        ("roofline share", found["roofline_share"], "%", "exact",
         f"Reading {found['ternary_weights_per_token']:,} weights at {BITS_PER_WEIGHT} bits, {core.beat_bytes} bytes a clock, takes "
         f"{floor:,.0f} clocks; that is their share of all."),
        ("memory share", found["memory_share"], "%", "exact",
         f"{found['required_bytes_per_cycle']:.3g} bytes move a clock, of {found['peak_bytes_per_cycle']:.3g} that port and pins could."),
        (f"bytes a {each}", found["bytes_per_token"], "", "exact",
         f"Through the memory port, both ways; {found['weight_bytes_per_token']:,} of them are matrices with their padding."),
    ]  # fmt: skip
    cards: list[dict[str, Any]] = [dict(zip(("name", "value", "unit", "evidence", "text"), row, strict=True)) for row in rows]
    if power["known"]:
        joules = power["joules_per_token"]
        cards.append({
            "name": "energy a token", "value": [joules["low"] * 1e3, joules["high"] * 1e3], "unit": "mJ", "evidence": "estimated",
            "text": f"{power['low_mw'] / 1e3:.2f} to {power['high_mw'] / 1e3:.2f} W for core and memory; no board was measured.",
        })  # fmt: skip
    return cards


def _power(core: CoreConfig, found: dict[str, Any], activity: Path | None) -> dict[str, Any]:
    """As ``trilobit power --json``, or why it is not known."""
    try:
        known_resources(core)
    except ConfigError as error:
        if activity is not None:
            raise
        return {"known": False, "why": str(error)}
    measured = None if activity is None else measured_activity(core, activity)
    return {"known": True} | token_power(core, found, measured).to_dict()


def _board(core: CoreConfig, found: dict[str, Any]) -> dict[str, Any]:
    """The device that the core is meant for, boards that were routed with this core, and counts of it for other families."""
    shape = core_shape(core.parameters())
    mine = [report for _, report in core_reports() if core_shape(report["core"]) == shape]
    return {
        "fit": found["board"], "clock": clock_evidence(core), "clock_mhz": found["clock_mhz"],
        "on_chip_memories": found["on_chip_memories"], "on_chip_bits": found["on_chip_bits"],
        "boards": [
            {"board": report["board"], "used": report["resources"], "available": report["available"], "fmax_mhz": report["fmax_mhz"],
             "clock_mhz": report["clock_mhz"], "evidence": report["evidence"], "bitstream": report.get("bitstream")}
            for report in mine if "board" in report and "available" in report
        ],
        "families": [
            {"family": FAMILIES.get(report["family"], report["family"]), "evidence": report["evidence"],
             "total": {key: report["total"][key] for key in ("luts", "memory_luts", "registers", "carries", "dsps", "brams")}}
            for report in mine if "family" in report and "total" in report
        ],
    }  # fmt: skip


def _commands(
    folder: str, bundle: Bundle, found: dict[str, Any], memory: str, clock_mhz: float | None, known_power: bool
) -> list[dict[str, str]]:
    """How to get each figure again."""
    path, core = shlex.quote(folder), bundle.core
    options = ("" if memory == "ideal" else f" --memory {shlex.quote(memory)}") + ("" if clock_mhz is None else f" --clock {clock_mhz:g}")
    timing = "" if memory == "ideal" else f" --memory {shlex.quote(memory)}"
    rows = {
        "this page": f"trilobit report {path}{options} -o report.html",
        "cycles, bytes, shares, units": f"trilobit estimate {path}{options}",
        "the whole timeline, for ui.perfetto.dev": f"trilobit estimate {path}{options} --trace token.pftrace",
        "vectors: ranges, saturations": f"trilobit inspect {path}",
        "program": f"trilobit disasm {shlex.quote(str(Path(folder) / 'program.bin'))}",
    }
    if core.batch == 1:
        prompt = '--prompt "Once upon a time"' if bundle.manifest.tokenizer else "--push 1"
        rows["tokens, measured in RTL simulation"] = f"trilobit run {path} --backend rtl{timing} {prompt} -n 8"
    if known_power:
        rows["power"] = f"trilobit power {path}{options}"
    if core.name in {report["core"]["name"] for folder_name, report in core_reports() if folder_name.endswith("-core")}:
        rows["resources and clock of the core alone"] = f"python -m trilobit.bitstreams {core.name}"
    rows |= {f"resources and clock of {board['board']}": f"trilobit build {board['board']}" for board in _board(core, found)["boards"]}
    return [{"figure": figure, "command": command} for figure, command in rows.items()]
