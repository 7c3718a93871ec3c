"""``trilobit power``: the sum of its terms, from exact cycles; cores of which nothing is known are refused."""

import json
import re
from dataclasses import asdict

import pytest
import yaml
from click.testing import CliRunner

from trilobit import cli
from trilobit.isa.core import load_core
from trilobit.story import kept_resources

SMALL = "64/1/64/64"


def power(*arguments: str):
    return CliRunner().invoke(cli.main, ["power", *arguments])


def verb(name: str, *arguments: str) -> dict:
    result = CliRunner().invoke(cli.main, [name, *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_total_is_the_sum_of_the_terms_and_the_energy_follows_from_it():
    data = verb("power", SMALL)
    for end in ("low", "high"):
        total = sum(term[f"{end}_mw"] for term in data["terms"])
        assert data[f"{end}_mw"] == pytest.approx(total, abs=0.1)  # terms are printed to 0.01 mW, the total to 0.1
        assert data["joules_per_token"][end] == pytest.approx(total * 1e-3 / data["tokens_per_second"], rel=1e-3)
    assert data["low_mw"] < data["high_mw"] and len(data["terms"]) == 6 and all(term["source"] for term in data["terms"])
    assert data["tokens_per_joule"]["low"] == pytest.approx(1 / data["joules_per_token"]["high"])
    assert data["evidence"] == data["evidence_of"]["joules_per_token"] == "estimated"


def test_cycles_and_bytes_are_those_of_estimate():
    arguments = (SMALL, "--core", "ulx3s", "--memory", "sdram", "--clock", "50")
    found, exact = verb("power", *arguments), verb("estimate", *arguments)
    for name in ("cycles_per_token", "bytes_per_token", "tokens_per_second", "clock_mhz", "memory", "core"):
        assert found[name] == exact[name], name
    assert found["memory"] == "sdram" and found["clock_mhz"] == 50
    # 100 pJ/bit (low) of the bytes that pass in a second.
    rate = exact["bytes_per_token"] * exact["tokens_per_second"]
    assert next(term for term in found["terms"] if "SDRAM" in term["name"])["low_mw"] == pytest.approx(rate * 8 * 100e-12 * 1e3, rel=1e-3)


def test_logic_and_memory_scale_with_the_clock_and_static_power_does_not():
    slow, fast = (verb("power", SMALL, "--clock", clock)["terms"] for clock in ("20", "40"))
    ratios = [after["high_mw"] / before["high_mw"] for before, after in zip(slow, fast, strict=True)]
    assert ratios == pytest.approx([2] * 5 + [1], rel=1e-2)


def test_people_see_every_term_the_total_and_the_evidence():
    result = power(SMALL)
    assert result.exit_code == 0
    data = verb("power", SMALL)
    for term in data["terms"]:
        assert re.search(rf"^{re.escape(term['name'])} +{term['low_mw']:.1f} +{term['high_mw']:.1f}  \w", result.output, re.MULTILINE)
    assert re.search(rf"^total +{data['low_mw']} +{data['high_mw']}  estimated", result.output, re.MULTILINE)
    assert re.search(r"^cycles a token +[\d,.]+, exact", result.output, re.MULTILINE)
    assert max(map(len, result.output.splitlines())) <= 120
    registers = kept_resources(load_core("ulx3s"))[0].registers
    assert f"{registers} registers" in result.output


def test_a_core_of_which_nothing_is_known_is_refused(tmp_path):
    unknown = power(SMALL, "--core", "axi512")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert unknown.stderr == "trilobit: expected a core with a known board (ulx3s) for a power estimate, got 'axi512'\n"
    other = tmp_path / "ulx3s.yaml"
    other.write_text(yaml.safe_dump(asdict(load_core("ulx3s")) | {"lanes": 2}))
    changed = power(SMALL, "--core", str(other))
    assert changed.exit_code == 2 and "the parameters of its kept place-and-route report" in changed.stderr


@pytest.mark.parametrize("clock", ["0", "-1", "nan", "inf"])
def test_a_clock_that_is_none_is_refused(clock):
    result = power(SMALL, "--clock", clock)
    assert result.exit_code == 2 and "expected a clock above 0 MHz" in result.stderr
