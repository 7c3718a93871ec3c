"""Models for boards without memory: what is built in, what is refused and by which numbers, the files that are written."""

import hashlib
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner

from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler import compile_model
from trilobit.bitstreams import up5k
from trilobit.bitstreams.onchip import MEMORY, bake, check_blocks, load_model
from trilobit.bitstreams.timing import missed_clocks
from trilobit.cli import main
from trilobit.errors import ConfigError
from trilobit.hdl.onchip_boards import ONCHIP_BOARDS, find_any_board
from trilobit.hdl.onchip_memory import bank_sizes
from trilobit.isa.core import load_core
from trilobit.sim.backend import HostSettings
from trilobit.sim.cycles_backend import CycleBackend
from trilobit.text import Tokenizer

BOARD = ONCHIP_BOARDS["onchip_25f"]
FOLDER = Path(str(resources.files("trilobit.bitstreams")))
KEPT = sorted(path for name in ONCHIP_BOARDS for path in (FOLDER / name).glob(f"trilobit_{name}-*.json") if "missed" not in path.name)


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The smallest model that ships, for the core of these boards."""
    folder = tmp_path_factory.mktemp("onchip") / "bundle"
    compile_model("shakespeare-onchip", load_core("onchip"), folder)
    return load_bundle(folder)


def test_what_is_built_in_is_the_bundle(bundle):
    baked = bake(bundle, temperature=0.8, limit=100)
    tokenizer = Tokenizer(bundle.tokenizer)
    assert baked.image == bytes(bundle.image) and list(baked.program) == bundle.program.code
    assert len(baked.encode) == tokenizer.size - 2 and all(tokenizer.encode(chr(byte)) == [token] for byte, token in baked.encode.items())
    assert tokenizer.encode("~") == [baked.unknown] and baked.first == bundle.manifest.bos_token_id
    scalar = HostSettings(temperature=0.8).temperature_scalar()
    assert (baked.temperature_m, baked.temperature_e) == (scalar.mantissa, scalar.exponent)


def test_the_model_that_ships_fits_and_its_speed_is_the_cycle_models(bundle):
    model = load_model(BOARD, bundle.folder)
    assert 100_000 <= model.weights <= 500_000
    fits = check_blocks(BOARD, model.baked)
    assert fits["model_blocks"] + fits["core_blocks"] <= fits["blocks"] == 56
    assert 2048 * fits["model_blocks"] == sum(bank_sizes(bundle.core, bundle.manifest.window_size)) * bundle.core.beat_bytes
    machine = CycleBackend(bundle.core, bundle.program, bundle.memory(), HostSettings(limit=3), memory_model=MEMORY)
    machine.push([0])
    first = machine.run().cycles
    longer = CycleBackend(bundle.core, bundle.program, bundle.memory(), HostSettings(limit=4), memory_model=MEMORY)
    longer.push([0])
    assert abs(longer.run().cycles - first - model.cycles_per_token) <= 0.01 * model.cycles_per_token


def test_a_model_that_is_too_large_is_refused_with_the_numbers(tmp_path):
    compile_model("shakespeare-tiny", load_core("onchip"), tmp_path / "bundle")
    with pytest.raises(ConfigError, match=r"117,104 bytes take 58 block RAMs beside the core's 19, of 56; a model of at most 75,776 bytes"):
        load_model(BOARD, tmp_path / "bundle")
    result = run("build", "onchip_25f", "--bundle", tmp_path / "bundle", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "58 block RAMs" in result.output and not (tmp_path / "out").exists()
    assert load_model(ONCHIP_BOARDS["onchip_45f"], tmp_path / "bundle").weights == 448_800


def test_a_model_of_words_is_refused(tmp_path):
    compile_model("tales", load_core("ulx3s"), tmp_path / "bundle")
    with pytest.raises(ConfigError, match=r"expected a model whose tokens are single characters, got .*bundle with tokens such as"):
        load_model(BOARD, tmp_path / "bundle")


def test_wrong_names_are_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"expected a board .*icepi_zero, onchip_12f, .*, got 'onchip_9f'"):
        find_any_board("onchip_9f")
    for verb in (("build",), ("verilog", "--board")):
        result = run(*verb, "onchip_25f", "--core", "tiny", "-o", tmp_path / "out")
        assert result.exit_code == 2 and "expected no --core with an onchip_ board" in result.output
    result = run("verilog", "--board", "onchip_9f", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "onchip_25f" in result.output and not (tmp_path / "out").exists()


def test_the_files_of_a_board_hold_the_model(bundle, tmp_path):
    result = run("verilog", "--board", "onchip_25f", "--bundle", bundle.folder, "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["core"] == "onchip" and data["clock_mhz"] == 50.0
    text = (tmp_path / "trilobit_onchip_25f.v").read_text()
    assert "EHXPLLL" in text and "sdram" not in text.lower()
    banks = [re.findall(rf"^    bank{k}\[\d+\] = 16'h([0-9a-f]+);", text, re.MULTILINE) for k in range(3)]
    assert [len(bank) for bank in banks] == bank_sizes(bundle.core, bundle.manifest.window_size)
    image = b"".join(int(word, 16).to_bytes(2, "little") for bank in banks for word in bank)
    assert image[: bundle.manifest.write_start] == bytes(bundle.image) and not any(image[bundle.manifest.write_start :])
    program = re.findall(r"^    imem\[\d+\] = 128'h([0-9a-f]+);", text, re.MULTILINE)
    assert [int(word, 16) for word in program[: len(bundle.program.code)]] == bundle.program.code
    script = (tmp_path / "trilobit_onchip_25f.ys").read_text()
    assert "read_verilog trilobit_onchip_25f.v\n" in script and 'setattr -set ram_style "distributed" *.core.outputs/m:*\n' in script
    assert "LOCATE" in (tmp_path / "trilobit_onchip_25f.lpf").read_text()


def test_a_build_says_what_it_holds_and_how_fast_it_writes(bundle, tools, tmp_path, monkeypatch):
    """With tools that only pretend, whose clock is 60 MHz."""
    tools()
    monkeypatch.setitem(ONCHIP_BOARDS, "onchip_25f", replace(BOARD, clock_mhz=60.0))
    result = run("build", "onchip_25f", "--bundle", bundle.folder, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["model"]["name"] == "shakespeare-onchip" and report["model"]["ternary_weights"] == 261_360
    assert report["core"]["name"] == "onchip" and "sdram_mhz" not in report and "not run on a board" in report["evidence"]
    assert report["speed"]["tokens_per_second"] == pytest.approx(60e6 / report["speed"]["cycles_per_token"])
    assert "--25k" in report["nextpnr"] and 'ram_style "distributed" *.core.prompts/m:*' in report["yosys"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".bit", ".json"}


def test_an_ecp5_25f_has_a_bitstream():
    assert any(path.parent.name == "onchip_25f" for path in KEPT)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_report_is_whole_and_the_page_has_its_figures(path, bundle):
    page = (Path(__file__).parents[2] / "docs" / "onchip.md").read_text()
    report = json.loads(path.read_text())
    board = ONCHIP_BOARDS[path.parent.name]
    assert report["board"] == board.name and report["clock_mhz"] == board.clock_mhz and not missed_clocks(report["clocks"])
    assert all(report["resources"][key] <= report["available"][key] for key in report["resources"])
    assert sum(unit["luts"] for unit in report["units"].values()) == report["synthesised"]["luts"]
    assert report["model"]["model_blocks"] + report["model"]["core_blocks"] >= report["resources"]["brams"]
    assert report["model"]["window_size"] == bundle.manifest.window_size
    data = path.with_suffix(".bit").read_bytes()
    assert len(data) == report["bitstream_bytes"] and hashlib.sha256(data).hexdigest() == report["bitstream_sha256"]
    figures = [f"{report['fmax_mhz']} MHz", f"{report['resources']['luts']:,}", f"{report['speed']['tokens_per_second']:,.0f}"]
    assert all(figure in page for figure in figures), figures


def test_an_up5k_is_too_small_by_the_kept_count():
    report = json.loads(resources.files("trilobit.bitstreams").joinpath("up5k/report.json").read_text())
    assert report["available"] == up5k.AVAILABLE and report["parameters"] == up5k.smallest_core().parameters()
    assert all(report["excess"][key] > 1 for key in ("luts", "dsps", "brams")) and "not placed" in report["evidence"]
    text = (Path(__file__).parents[2] / "docs" / "onchip.md").read_text()
    for key, available in up5k.AVAILABLE.items():
        assert f"| {report['resources'][key]:,} | {available:,} | {report['excess'][key]:.2f} |" in text
