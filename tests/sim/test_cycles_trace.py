"""Timelines: the same from the RTL and the cycle model, read back from the file that Perfetto reads."""

from itertools import pairwise

import numpy as np
import pytest
from cycles_programs import random_case
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from trilobit.errors import ConfigError
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.cycles import CycleModel
from trilobit.sim.rtl import RtlSimulator
from trilobit.sim.trace import UNITS, timeline, write_trace

TINY = load_core("tiny")
e = ISA.encode


def traced(program, memory="ideal", **arguments):
    with CycleModel(program, TINY, memory, **arguments) as model:
        model.record_retires = True
        model.trace()
        model.run()
        return model.trace_records(), model.retires, model.result()


@pytest.mark.parametrize("number", range(6))
def test_the_rtl_and_the_model_record_the_same(number, seed):
    rng = np.random.default_rng([seed, number])
    case = random_case(rng, TINY, 30)
    memory = f"latency:{rng.integers(1, 40)}"
    prompts = [token for (tokens,) in case.prompts for token in tokens]
    with RtlSimulator(TINY, case.program, settings=case.settings, memory_model=memory) as rtl:
        rtl.push(prompts)
        rtl.trace()
        tokens = rtl.run().tokens
        expected = rtl.trace_records()
    found = [token for token, argmax in zip(tokens, case.argmaxes, strict=True) if argmax]
    with CycleModel(case.program, TINY, memory, case.settings, generated=found) as model:
        model.push(prompts)
        model.trace()
        model.run()
        np.testing.assert_array_equal(model.trace_records(), expected)
    assert len(expected) > 60


def chain():
    """A load, a sum that needs the row-wise unit twice, a store, and a load into a register that is being read."""
    return Program("chain", [
        e("ldv", vd=2, addr=0, len=40), e("add", vd=3, va=2, vb=1, len=40), e("mul", vd=4, va=3, vb=2, len=40),
        e("sv", addr=256, va=3, len=40, wide=1), e("ldv", vd=3, addr=0, len=40), e("halt"),
    ], 512, 256)  # fmt: skip


def test_every_instruction_has_a_slice_from_issue_to_retirement():
    records, retires, _ = traced(chain())
    tracks = timeline(chain(), records).tracks
    ends = {(unit, item.details["pc"]): item.begin + item.cycles - 1 for unit in UNITS[:-1] for item in tracks[unit]}
    assert ends == {(r.unit, r.pc): r.cycle for r in retires if r.unit != "control"}
    assert [item.name for item in tracks["issue"]] == ["halt"]
    add = next(item for item in tracks["rowwise"] if item.name == "add")
    assert {"vd": 3, "va": 2, "vb": 1, "len": 40}.items() <= add.details.items()


def test_stalls_are_all_there_and_name_the_instruction_that_causes_them():
    records, _, result = traced(chain())
    stalls = timeline(chain(), records).tracks["stalls"]
    by_cause: dict[str, int] = {}
    for item in stalls:
        cause = item.name.split(":")[0]
        by_cause[cause] = by_cause.get(cause, 0) + item.cycles
    counted = {name.removeprefix("stall_"): n for name, n in result.counters.items() if name.startswith("stall_") and n}
    assert by_cause == counted
    assert {"unit_rowwise: pc 1 add", "unit_ldst: pc 3 sv"} <= {item.name for item in stalls}
    assert next(item for item in stalls if item.name == "unit_rowwise: pc 1 add").details["waits"] == "pc 2 mul"


def test_the_file_is_a_perfetto_trace_with_these_slices(tmp_path):
    case = random_case(np.random.default_rng(3), TINY, 40)
    with CycleModel(case.program, TINY, "latency:20", case.settings) as model:
        for (tokens,) in case.prompts:
            model.push(tokens)
        model.trace()
        model.run()
        written = write_trace(tmp_path / "run.pftrace", case.program, model.trace_records(), title="random")
        counters = model.result().counters
    trace = Trace()
    trace.ParseFromString((tmp_path / "run.pftrace").read_bytes())
    names = {p.track_descriptor.uuid: p.track_descriptor.name for p in trace.packet if p.HasField("track_descriptor")}
    open_slices: dict[int, tuple] = {}
    found: dict[str, list] = {}
    levels = []
    for packet in trace.packet:
        event = packet.track_event
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in open_slices, "slices of a row never overlap"
            open_slices[event.track_uuid] = (packet.timestamp, event.name)
        elif event.type == TrackEvent.TYPE_SLICE_END:
            begin, name = open_slices.pop(event.track_uuid)
            found.setdefault(names[event.track_uuid], []).append((begin, packet.timestamp - begin, name))
        elif event.type == TrackEvent.TYPE_COUNTER:
            levels.append((packet.timestamp, event.counter_value))
    assert not open_slices
    expected = {track: sorted((s.begin, s.cycles, s.name) for s in slices) for track, slices in written.tracks.items() if slices}
    assert {track: sorted(slices) for track, slices in found.items()} == expected
    assert levels == written.levels and levels
    reads = written.tracks["stream"]
    assert reads and sum(item.cycles for item in reads) >= counters["stream_read_beats"], "every beat lies in a slice"
    assert all(b.begin - (a.begin + a.cycles) >= 64 for a, b in pairwise(reads))
    assert sum(item.cycles for item in written.tracks["tmatmul waits"]) == sum(
        counters[f"matmul_wait_{cause}"] for cause in ("weights", "activations", "output")
    )


def covered(slices) -> int:
    """Cycles in which one slice at least lies."""
    total = end = 0
    for item in sorted(slices, key=lambda item: item.begin):
        total += max(item.begin + item.cycles - max(item.begin, end), 0)
        end = max(end, item.begin + item.cycles)
    return total


@pytest.mark.parametrize("number", range(8))
def test_slices_add_up_to_the_counters(number, seed):
    """Issued and stalled cycles are all cycles; a unit is busy from the cycle behind an issue on, for as long as it has a slice."""
    case = random_case(np.random.default_rng([seed, number]), TINY, 60)
    with CycleModel(case.program, TINY, f"latency:{1 + 5 * number}", case.settings) as model:
        for (tokens,) in case.prompts:
            model.push(tokens)
        model.trace()
        model.run()
        tracks, counters = timeline(case.program, model.trace_records()).tracks, model.result().counters
    assert sum(len(tracks[name]) for name in ("issue", *UNITS[:-1])) == counters["issued"]
    assert sum(item.cycles for item in tracks["stalls"]) + counters["issued"] == counters["cycles"]
    for unit in UNITS[:-1]:
        assert 0 <= covered(tracks[unit]) - counters[f"busy_{unit}"] <= 2 * len(tracks[unit]), unit
        for item in tracks[unit]:
            word = ISA.decode(case.program.code[item.details["pc"]])
            assert item.name == word.name and word.opcode.unit == unit
            assert {name: item.details[name] for name in word.values} == dict(word.values)


def test_a_trace_needs_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="expected to write a trace there"):
        write_trace(tmp_path / "none" / "run.pftrace", chain(), traced(chain())[0])
    assert list(tmp_path.iterdir()) == []
