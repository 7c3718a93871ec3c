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
        ({"clock_mhz": 0}, "expected a finite clock_mhz above 0, got 0"),
        ({"clock_mhz": -5.0}, r"expected a finite clock_mhz above 0, got -5\.0"),
        ({"clock_mhz": float("nan")}, "expected a finite clock_mhz above 0, got nan"),
        ({"clock_mhz": float("inf")}, "expected a finite clock_mhz above 0, got inf"),
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
        ("beat_bytes: 4\n", "expected lanes and max_length too, got a core without; give it a value"),
        ("machine: lean\n", "expected beat_bytes and lanes and max_length too"),
        ("beat_bytes: 4\nfoo: 1\n1: 2\n", "unknown parameter 1; known are"),
        ("- 1\n- 2\n", "expected a mapping of parameters, got list"),
        ("beat_bytes: [\n", "not readable as YAML"),
    ],
)
def test_files_that_are_no_core_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_core(str(path))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"mine\.yaml': can't read it as text: 'utf-8' codec"):
        load_core(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 2}, "expected lanes to be 1 for a lean core, got 2"),
        ({"batch": 2}, "expected batch to be 1 for a lean core, got 2"),
        ({"beat_bytes": 2}, "expected beat_bytes to be from 4 to 64 for a lean core, got 2"),
        ({"beat_bytes": 128}, "expected beat_bytes to be from 4 to 64 for a lean core, got 128"),
        ({"max_length": 7}, "expected max_length to be from 8 to 4096 for a lean core, got 7"),
        ({"max_length": 4097}, "expected max_length to be from 8 to 4096 for a lean core, got 4097"),
        ({"machine": "Lean"}, "expected machine to be one of pipelined, lean, got 'Lean'"),
    ],
)
def test_a_lean_core_names_its_own_limits_first(changes, message):
    with pytest.raises(ConfigError, match=message):
        load_core("lean16").replace(**changes)


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
