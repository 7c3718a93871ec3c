"""Geometries, the estimate and the power range: against figures computed by hand or published."""

import json

import pytest
from click.testing import CliRunner

from trilobit.commands.estimate import command
from trilobit.errors import ConfigError
from trilobit.isa.core import load_core
from trilobit.sim.estimate import estimate
from trilobit.sim.geometry import GEOMETRIES, Geometry, parse_geometry, roofline_share
from trilobit.sim.power import Resources, estimate_power

AXI512 = load_core("axi512")


@pytest.mark.parametrize(("name", "weights"), [("370m", 341_049_344), ("1.3b", 1_298_661_376), ("2.7b", 2_619_473_920)])
def test_ternary_weights_are_those_of_the_published_models(name, weights):
    assert GEOMETRIES[name].ternary_weights == weights


def test_a_layer_reads_the_beats_of_the_budget():
    # H=1024, I=2816 at 64 bytes a clock: 40,188 beats of weights, 344 of gains; here with a header beat each.
    one = Geometry(H=1024, L=1, I=2816, V=5)
    two = Geometry(H=1024, L=2, I=2816, V=5)
    assert two.stream_beats(AXI512) - one.stream_beats(AXI512) == 40_188 + 344 + 7 + 9


def test_tiles_of_the_head_fit_a_register_and_cover_the_vocabulary():
    tiles = GEOMETRIES["1.3b"].head_tiles(AXI512)
    assert sum(tiles) == 32000 and max(tiles) <= AXI512.max_length


def test_the_estimate_never_beats_memory():
    for geometry in GEOMETRIES.values():
        for preset in ("axi512", "ulx3s"):
            result = estimate(geometry, load_core(preset))
            assert 0 < result.roofline < 1
            assert result.cycles_per_token > result.stream_beats


def test_roofline_share_is_one_when_every_beat_is_weights():
    assert roofline_share(320, 64, 1) == pytest.approx(1.0)


def test_geometry_text_is_checked():
    assert parse_geometry("8/2/16/32") == Geometry(H=8, L=2, I=16, V=32)
    with pytest.raises(ConfigError, match=r"expected a geometry .*got 'huge'"):
        parse_geometry("huge")
    with pytest.raises(ConfigError, match="H of at least 1, got 0"):
        parse_geometry("0/2/16/32")


def test_the_verb_prints_the_promised_keys():
    result = CliRunner().invoke(command, ["1.3b", "--core", "axi512", "--json"], catch_exceptions=False)
    data = json.loads(result.output)
    keys = {"cycles_per_token", "tokens_per_second", "roofline_share", "bytes_per_token", "weight_bytes_per_token", "units", "evidence"}
    assert keys <= set(data)
    assert data["evidence"].startswith("estimated")


def test_power_is_a_range_whose_terms_name_their_sources():
    power = estimate_power("ulx3s", Resources(registers=1000, luts=2000, dsps=10, brams=20), clock_mhz=60, bytes_per_second=200e6)
    assert 0 < power.low_mw < power.high_mw
    assert all(term.low_mw <= term.high_mw and term.source for term in power.terms)
    # 200 MB/s at 100 pJ/bit is 160 mW.
    assert any(term.low_mw == pytest.approx(160) for term in power.terms)
    with pytest.raises(ConfigError, match="known board"):
        estimate_power("axi512", Resources(registers=1, luts=1, dsps=1, brams=1), clock_mhz=60, bytes_per_second=1)
