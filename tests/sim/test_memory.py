"""Memory timing: peak rates, refresh, row misses and turnarounds against the arithmetic of the YAML files, and the files themselves."""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from trilobit.errors import ConfigError
from trilobit.sim.memory import IDEAL, DramModel, MemoryModel, SdramModel, load_memory, memories, parse_memory

sys.path.insert(0, str(Path(__file__).resolve().parent))
from memory_support import Request, drive, sequential

FILES = Path(__file__).resolve().parents[2] / "sim" / "memories"
PORTS = {"ddr4-2400": (64, 300), "ddr4-2400-hot": (64, 300), "ddr4-2400-x4": (256, 300), "ddr3-667": (16, 83.33325)}  # beat bytes, MHz


def dram(name, **changes):
    """A memory of the project; changes to its keys, those of the controller included."""
    data = yaml.safe_load((FILES / f"{name}.yaml").read_text())
    for key, value in changes.items():
        (data["controller"] if key in data["controller"] else data)[key] = value
    return load_memory(name, yaml.safe_dump(data))


def test_names_are_parsed():
    assert parse_memory("ideal") == IDEAL == MemoryModel(1, 0)
    assert parse_memory("latency:12") == MemoryModel(12)
    assert parse_memory("latency:12,outstanding=3") == MemoryModel(12, 3)
    for model in (IDEAL, MemoryModel(7), MemoryModel(7, 2)):
        assert parse_memory(model.name) == model
    assert set(PORTS) <= set(memories())
    for name in memories():
        assert isinstance(parse_memory(name), (DramModel, SdramModel))
        assert parse_memory(name) == parse_memory(str(FILES / f"{name}.yaml"))
    for wrong in ("fast", "12:3", "latency:0", "latency:5,outstanding=70000", "none.yaml", "latency:"):
        with pytest.raises(ConfigError):
            parse_memory(wrong)
    with pytest.raises(ConfigError, match=r"ideal, latency:N\[,outstanding=M\], .*ddr4-2400.* or a YAML file, got 'ddr5'"):
        parse_memory("ddr5")


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "hbm"}, "kind: dram or sdram, got 'hbm'"),
    ({"t_cas": 3}, "unknown parameter t_cas; known are"),
    ({"t_rcd": None}, "expected t_rcd as a number"),
    ({"banks": 2.5}, "expected banks as a whole number"),
    ({"banks": 6}, "multiple of bank_groups=4"),
    ({"clock_ratio": 2}, "one of clock_mhz and clock_ratio, got both"),
    ({"t_refi": 300.0}, "t_refi above"),
    ({"row_bytes": 100}, "row_bytes as a multiple"),
    ({"sources": []}, "sources"),
    ({"sources": "a data sheet"}, "a list of texts"),
    ({"t_rp": -1.0}, "t_rp from 0"),
])  # fmt: skip
def test_files_are_checked(change, message):
    data = yaml.safe_load((FILES / "ddr4-2400.yaml").read_text()) | change
    with pytest.raises(ConfigError, match=message):
        load_memory("wrong", yaml.safe_dump(data))


def test_a_missing_key_is_named():
    data = yaml.safe_load((FILES / "ddr4-2400.yaml").read_text())
    del data["t_rfc"]
    with pytest.raises(ConfigError, match="t_rfc"):
        load_memory("wrong", yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_memory("wrong", "{")


@pytest.mark.parametrize("name", PORTS)
def test_pins_are_the_bus_times_its_rate(name):
    beat_bytes, clock = PORTS[name]
    model = parse_memory(name)
    per_second = {"ddr4-2400": 19.2e9, "ddr4-2400-hot": 19.2e9, "ddr4-2400-x4": 76.8e9, "ddr3-667": 1.333e9}[name]
    assert model.pin_bytes_per_cycle(clock) * clock * 1e6 == pytest.approx(per_second, rel=1e-3)
    assert model.pin_bytes_per_cycle(clock) == pytest.approx(beat_bytes, rel=1e-3), "these ports are as fast as the pins"
    assert IDEAL.pin_bytes_per_cycle(clock) is None


@pytest.mark.parametrize("latency, outstanding", [(1, 0), (5, 0), (20, 1), (20, 3)])
def test_fixed_latency(latency, outstanding):
    requests = [Request(64 * k, 4) for k in range(0, 40, 4)]
    got = drive(MemoryModel(latency, outstanding), requests, beat_bytes=64, clock_mhz=100)
    expected, free, ends = [], 0, []
    for k in range(10):
        taken = k if not outstanding or k < outstanding else max(k, ends[k - outstanding])  # ready in the cycle after the last beat
        if k:
            taken = max(taken, got.taken[k - 1] + 1)
        assert got.taken[k] == taken
        first = max(taken + latency, free)
        expected += range(first, first + 4)
        free = first + 4
        ends.append(first + 3 + 1)
    np.testing.assert_array_equal(got.done, expected)
    np.testing.assert_array_equal(got.addresses, 64 * np.arange(40))


@pytest.mark.parametrize("name", PORTS)
def test_without_refresh_a_sequential_stream_runs_at_the_pins_rate(name):
    beat_bytes, clock = PORTS[name]
    model = dram(name, t_refi=1e6)
    got = drive(model, sequential(1 << 20, beat_bytes=beat_bytes), beat_bytes=beat_bytes, clock_mhz=clock)
    np.testing.assert_array_equal(got.addresses, np.arange(0, 1 << 20, beat_bytes))
    beats = (1 << 20) // beat_bytes
    assert got.done[-1] - got.done[0] <= beats * 1.001, "activates of later rows run under the data of earlier ones"


@pytest.mark.parametrize("name", PORTS)
def test_refresh_costs_its_share(name):
    """Every tREFI all rows are closed, refreshed and opened again; what it costs lies between tRFC and the whole gap, once an interval."""
    beat_bytes, clock = PORTS[name]
    model = parse_memory(name)
    got = drive(model, sequential(16 << 20, beat_bytes=beat_bytes), beat_bytes=beat_bytes, clock_mhz=clock)
    beats = (16 << 20) // beat_bytes
    ns = (got.done[-1] - got.done[0] + 1) * 1000 / clock
    lost = 1 - beats * 1000 / clock / ns
    low = model.t_rfc / model.t_refi
    gap = model.t_rtp + model.t_rp + model.t_rfc + model.t_rcd + 20 * 1000 / model.command_mhz(clock)
    assert low < lost < gap / model.t_refi
    longest = np.diff(got.done).max() * 1000 / clock
    assert model.t_rfc < longest < gap + 2000 / clock
    # The first refresh is due a refresh interval after the reset.
    first = got.done[:-1][np.diff(got.done) * 1000 / clock > model.t_rfc][0] * 1000 / clock
    assert abs(first - model.t_refi) < 200


@pytest.mark.parametrize("name", ["ddr4-2400", "ddr3-667"])
def test_row_misses_cost_precharge_and_activate(name):
    """One read at a time: a hit, then another row of the same bank; and a bank that was never opened."""
    model = dram(name, t_refi=1e6)
    clock = model.clock_mhz  # one command clock a cycle
    p = model.parameters(clock).dram
    other_bank, other_row = model.row_bytes * model.bank_groups, model.row_bytes * model.banks
    reads = [0, 0, other_row, 0, other_bank, other_bank]
    got = drive(model, [Request(addr, alone=True) for addr in reads], beat_bytes=model.access_bytes, clock_mhz=clock)
    closed, hit, miss, miss_again, closed_again, hit_again = got.done - got.taken
    # Taken in a cycle, commands from the next; the beat is driven in the cycle that begins when its last data have passed.
    assert hit == hit_again == 1 + p.front + p.cl + p.access_clocks + p.back
    assert closed == closed_again == hit + p.rcd
    assert miss == miss_again == hit + p.rp + p.rcd


def test_a_row_is_not_closed_before_its_time():
    model = dram("ddr4-2400", t_refi=1e6, request_ns=0.0, response_ns=0.0)
    clock = model.clock_mhz
    p = model.parameters(clock).dram
    got = drive(model, [Request(0), Request(model.row_bytes * model.banks)], beat_bytes=64, clock_mhz=clock)
    assert got.done[1] - got.done[0] == p.rc, "tRC between activates, and the same way from there"
    assert p.rc == math.ceil(45.32 * 1.2)


def test_columns_of_one_bank_group_keep_the_longer_distance():
    model = dram("ddr4-2400", t_refi=1e6)
    clock = model.clock_mhz
    within = [Request(256 * k) for k in range(64)]  # every fourth access: one group
    got = drive(model, within, beat_bytes=64, clock_mhz=clock)
    assert set(np.diff(got.done[8:])) == {model.ccd_l_clocks}


def test_activates_keep_their_distance():
    """Single reads from a new row each, round the banks: four activates in tFAW at most."""
    model = dram("ddr4-2400", t_refi=1e6)
    clock = model.clock_mhz
    p = model.parameters(clock).dram
    rows = [Request(64 * (k % 4) + model.row_bytes * 4 * (k // 4)) for k in range(16)]  # all 16 banks, groups in turn
    got = drive(model, rows, beat_bytes=64, clock_mhz=clock)
    steps = np.diff(got.done)
    assert steps.min() == p.rrd_s
    assert (got.done[4:] - got.done[:-4]).min() == p.faw


def test_turnarounds():
    """A write behind a read, and a read behind the write."""
    model = dram("ddr4-2400", t_refi=1e6, posted_writes=False, request_ns=0.0, response_ns=0.0)
    clock = model.clock_mhz
    p = model.parameters(clock).dram
    got = drive(model, [Request(0), Request(64 * 8, 1, write=True)], beat_bytes=64, clock_mhz=clock)
    read, response = got.done
    first_column = read - p.cl - p.access_clocks
    assert got.taken[1] + 2 < first_column, "the write's beat has come by then"
    assert response == first_column + p.rtw + p.cwl + p.access_clocks
    got = drive(model, [Request(64 * 8, 1, write=True), Request(64 * 16, at=3)], beat_bytes=64, clock_mhz=clock)
    assert got.done[1] == got.done[0] + p.wtr + p.cl + p.access_clocks
    # A read that is taken before the write's beat has come goes first.
    got = drive(model, [Request(64 * 8, 1, write=True), Request(64 * 16)], beat_bytes=64, clock_mhz=clock)
    assert got.done[1] < got.done[0]


def test_posted_writes_are_answered_at_once():
    model = parse_memory("ddr4-2400")
    got = drive(model, [Request(0, 16), Request(4096, 4, write=True)], beat_bytes=64, clock_mhz=300)
    assert got.done[-1] == got.taken[1] + 4 + 1


def test_the_queue_limits_requests_under_way():
    model = dram("ddr4-2400", queue=2)
    got = drive(model, [Request(1024 * k, 16) for k in range(8)], beat_bytes=64, clock_mhz=300)
    ends = got.done[15::16]
    for k in range(2, 8):
        assert got.taken[k] == ends[k - 2] + 1


def test_a_narrow_port_is_the_limit():
    got = drive(dram("ddr4-2400", t_refi=1e6), sequential(1 << 18, beat_bytes=16), beat_bytes=16, clock_mhz=250)
    assert got.done[-1] - got.done[0] == (1 << 18) // 16 - 1, "a beat a cycle"


def test_random_requests_come_in_order_and_complete(rng):
    for name, (beat_bytes, clock) in PORTS.items():
        requests = [Request(int(rng.integers(1 << 16)) * beat_bytes, int(rng.integers(1, 17)), bool(rng.integers(4) == 0),
                            at=int(rng.integers(4000))) for _ in range(300)]  # fmt: skip
        got = drive(parse_memory(name), requests, beat_bytes=beat_bytes, clock_mhz=clock)
        entry = 0
        beats = []
        for request, taken in zip(requests, got.taken, strict=True):
            if request.write:
                assert got.done[entry] > taken + request.beats - 1
                entry += 1
                continue
            np.testing.assert_array_equal(
                got.addresses[entry : entry + request.beats], request.addr + beat_bytes * np.arange(request.beats)
            )
            beats += got.done[entry : entry + request.beats].tolist()
            entry += request.beats
        assert all(a < b for a, b in itertools.pairwise(beats)), "in request order, at most a beat a cycle"
