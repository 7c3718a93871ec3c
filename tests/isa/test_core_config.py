"""Core presets load; parameters that make no sense are refused with the parameter's name."""

from pathlib import Path

import pytest

from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig, load_core, presets


def test_the_presets_load_and_have_the_stated_widths():
    assert {"tiny", "paper8", "ulx3s", "axi512"} <= set(presets())
    assert {name: load_core(name).beat_bytes for name in ("tiny", "paper8", "axi512")} == {"tiny": 4, "paper8": 1, "axi512": 64}
    for name in presets():
        config = load_core(name)
        assert config.name == name
        assert config.words * config.lanes == config.max_length
        assert config.header_beats * config.beat_bytes >= 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beat_bytes": 6}, "expected beat_bytes to be a power of two, got 6"),
        ({"lanes": 3}, "expected lanes to be a power of two, got 3"),
        ({"lanes": 8}, "expected lanes from 1 to 4, got 8"),
        ({"lanes": 0}, "expected lanes to be a power of two, got 0"),
        ({"beat_bytes": 512}, "expected beat_bytes from 1 to 256, got 512"),
        ({"max_length": 8192}, "expected max_length from 8 to 8191, got 8192"),
        ({"max_length": 63}, "expected max_length to be a multiple of lanes=2, got 63"),
        ({"program_words": 1 << 17}, "expected program_words from 16 to 65536"),
        ({"burst_beats": 512}, "expected burst_beats from 1 to 256, got 512"),
        ({"weight_fifo_beats": 8}, "expected weight_fifo_beats from 16"),
        ({"load_fifo_beats": 2}, "expected load_fifo_beats from"),
        ({"gain_buffer_elements": 32}, "gain_buffer_elements of at least max_length=64"),
        ({"gain_buffer_elements": 250}, "a multiple of 8, got 250"),
        ({"clock_mhz": 0}, "expected clock_mhz above 0, got 0"),
        ({"clock_mhz": -5.0}, r"expected clock_mhz above 0, got -5\.0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=f"core 'tiny': .*{message}"):
        load_core("tiny").replace(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beat_bytes: 4\nlanes: 2\nmax_length: 64\nfoo: 1\n", "unknown parameter 'foo'; known are .*beat_bytes"),
        ("beat_bytes: four\nlanes: 2\nmax_length: 64\n", "expected beat_bytes as int, got 'four'"),
        ("beat_bytes: 4.0\nlanes: 2\nmax_length: 64\n", r"expected beat_bytes as int, got 4\.0"),
        ("beat_bytes: true\nlanes: 2\nmax_length: 64\n", "expected beat_bytes as int, got True"),
        ("beat_bytes: 4\n", "missing .* 'lanes' and 'max_length'"),
        ("- 1\n- 2\n", "expected a mapping of parameters, got list"),
        ("beat_bytes: [\n", "not readable as YAML"),
    ],
)
def test_files_that_are_no_core_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_core(str(path))


def test_a_core_of_ones_own_loads_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("beat_bytes: 8\nlanes: 4\nmax_length: 128\n")
    assert load_core(str(path)) == CoreConfig(name="mine", beat_bytes=8, lanes=4, max_length=128)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"expected a core preset \(.*tiny.*\) or a YAML file, got 'big'"):
        load_core("big")


def test_the_page_of_cores_has_every_preset_as_it_is():
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "cores.md").read_text()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")]
    columns = rows[0][1:-1]
    assert rows[0][0] == "preset" and "lanes" in columns and "beat_bytes" in columns
    listed = {row[0]: row[1:] for row in rows[1:] if row[0] in presets()}
    assert sorted(listed) == presets()
    for name, cells in listed.items():
        config = load_core(name)
        assert [float(cell) for cell in cells[:-1]] == [getattr(config, column) for column in columns], name
        assert cells[-1] == config.description
    assert {field for row in rows if (field := row[0]) in vars(load_core("tiny"))} >= set(columns) - {"clock_mhz"}
