"""The RMSNorm unit: integers, latency, waiting, faults (the tests are in cocotb_rmsnorm.py), and that every core elaborates."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import run_cocotb

from trilobit.hdl.rmsnorm import RMSNorm, norm_clocks, normq_clocks, rms_clocks
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core, presets
from trilobit.isa.fixed import rsqrt, square_norm
from trilobit.isa.semantics import norm, normq, rms


def test_unit_equals_the_semantics_in_the_documented_time(simulator, seed):
    run_cocotb(RMSNorm(load_core("tiny")), "rmsnorm", "cocotb_rmsnorm", simulators=[simulator], env={"PRESET": "tiny"}, seed=seed)


@pytest.mark.parametrize("changes", [{"lanes": 1}, pytest.param({"lanes": 4}, marks=pytest.mark.slow)], ids=["1-lane", "4-lanes"])
def test_other_numbers_of_lanes_give_the_same(changes, seed):
    config = load_core("tiny").replace(**changes)
    run_cocotb(RMSNorm(config), "rmsnorm", "cocotb_rmsnorm", simulators=["verilator"], seed=seed,
               env={"PRESET": "tiny", "CHANGES": json.dumps(changes), "CASES": 30})  # fmt: skip


@pytest.mark.parametrize(("batch", "cases"), [(2, 30), pytest.param(4, 60, marks=pytest.mark.slow)])
def test_every_slot_has_its_own_norms_in_the_time_of_one(batch, cases, seed):
    changes = {"batch": batch} if batch == 2 else {"batch": batch, "lanes": 1}
    run_cocotb(RMSNorm(load_core("tiny").replace(**changes)), "rmsnorm", "cocotb_rmsnorm", simulators=["verilator"], seed=seed,
               env={"PRESET": "tiny", "CHANGES": json.dumps(changes), "CASES": cases})  # fmt: skip


@pytest.mark.parametrize("preset", [name for name in presets() if load_core(name).machine == "pipelined"])
def test_every_preset_with_the_unit_elaborates(preset):
    assert "module rmsnorm" in to_verilog(RMSNorm(load_core(preset)), "rmsnorm")


def test_quantisation_is_as_precise_as_the_reference_page_says(rng):
    total = different = 0
    for length in [1, 2, 3, 64, 1000, 8191]:
        for bits in range(1, 19):  # one LSB to saturation
            x = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), length, endpoint=True)
            gains = rng.integers(-32768, 32768, length)
            z = x.clip(-(1 << 17), (1 << 17) - 1) * gains
            largest = int(np.abs(z).max())
            got = normq(x, gains)
            if largest == 0:
                assert not got.value.any() and got.scale.mantissa == 0
                continue
            exact = np.sign(z) * ((2 * 127 * np.abs(z) + largest) // (2 * largest))  # half away from zero
            assert np.abs(got.value - exact).max() <= 1
            assert (np.abs(got.value[np.abs(z) == largest]) == 127).all()
            assert got.scale.mantissa * 2.0**got.scale.exponent == pytest.approx(largest, rel=2.0**-16)
            total, different = total + length, different + int((got.value != exact).sum())
    assert different <= total / 1000


def test_scalars_are_as_precise_as_the_reference_page_says(rng):
    for bits in range(1, 63):
        for value in [1 << (bits - 1), (1 << bits) - 1, *rng.integers(1 << (bits - 1), 1 << bits, 20).tolist()]:
            square = square_norm(value)
            kept = square.mantissa * 2.0**square.exponent
            assert value * (1 - 2.0**-34) <= kept <= value and square.exponent % 2 == 0
            inverse = rsqrt(square)
            assert inverse.mantissa * 2.0**inverse.exponent * value**0.5 == pytest.approx(1, abs=2.0**-16)


def test_eps_of_both_norms_is_in_the_mean_square(rng):
    n = 1024
    for bits in (1, 4, 9, 18):
        x = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), n)
        gains = rng.integers(-32768, 32768, n)
        w = np.floor(x * gains / 2**15 + 0.5)
        got, saturated = rms(x, x, gains, sho=15, eps_m=21474, eps_e=20, k_m=40000, k_e=4)
        want = (w * w).sum() + np.floor((x * x).sum() * 21474 / 2**20) + 40000 * 16
        assert saturated == 0 and got.mantissa * 2.0**got.exponent == pytest.approx(want, rel=2.0**-34)


def test_a_whole_norm_is_within_one_unit_of_the_exact_one(rng):
    for n in (1, 7, 1024):
        for bits in (2, 8, 16):
            x = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), n)
            x[0] = 1
            # sqrt(n) * 2^12 * x / sqrt(sum(x^2)), the factor sqrt(n) as c_m * 2^-k
            k = int(np.ceil(15 - np.log2(n**0.5)))
            c_m = round(n**0.5 * 2**k)
            exact = c_m * 2.0 ** (12 - k) * x / np.sqrt((x * x).sum() + 5.0)
            got = norm(x, sho=k - 12, c_m=c_m, k_m=5, k_e=0, wide=1)
            error = np.abs(got.value - exact)
            assert (error <= 0.5 + np.abs(exact) * 2.0**-15 + np.abs(exact).max() * 2.0**-20).all()


def test_latencies_on_the_reference_page_are_those_of_the_unit():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "rmsnorm.md").read_text()
    for lanes in (1, 2, 16):
        config = load_core("axi512").replace(lanes=lanes)
        levels = lanes.bit_length() - 1
        n = 100
        assert rms_clocks(config, n) == n + 51 + levels
        assert normq_clocks(config, n) == normq_clocks(config, n, scaled=True) == 2 * n + 38 + levels
        assert normq_clocks(config, 1, scaled=True) == 42 + 27
        assert norm_clocks(config, n) == 2 * n + 117 + levels
        for clocks in (rms_clocks, normq_clocks, norm_clocks):
            assert clocks(config, n, gain=True) == clocks(config, n) + 1
    for figure in ("`n + 51 + T + G`", "`n + 26 + max(n + 12 + T + G, 42)`", "`2n + 38 + T + G`", "`2n + 117 + T + G`"):
        assert figure in text, f"the page has lost {figure}"
