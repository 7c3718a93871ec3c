"""A board on a serial port of the operating system, through pyserial: the command line, noise, and a cable that is pulled."""

import json
import os
import tty
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from serial_port import SerialPort

import trilobit
from trilobit.cli import main
from trilobit.host.board import BLOCK_BYTES, Board
from trilobit.host.transport import LineLostError, SerialTransport
from trilobit.isa.core import load_core

pytest.importorskip("serial", reason="pyserial is not installed")
TOY = Path(__file__).resolve().parents[1] / "model" / "data" / "toy"
SIZE = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("port") / "bundle"
    trilobit.compile(TOY, load_core("ulx3s"), folder)
    return folder


@pytest.mark.parametrize("noise", [0, 5e-4])
def test_run_on_a_port_writes_what_the_functional_simulator_writes(noise, bundle, tmp_path, rng):
    """``trilobit run BUNDLE --target ulx3s --port PORT``: self-test, load, tokens; noise takes longer and changes none."""
    arguments = ["run", str(bundle), "--push", "1,7,3", "-n", "8", "--temperature", "0.9", "--seed", "2", "--json"]
    expected = CliRunner().invoke(main, [*arguments, "--backend", "functional"])
    assert expected.exit_code == 0, expected.output
    with SerialPort(tmp_path / "tty", load_core("ulx3s"), SIZE, rng=rng, flips=noise, drops=noise) as port:
        found = CliRunner().invoke(main, [*arguments, "--target", "ulx3s", "--port", str(port.path)])
    assert found.exit_code == 0, found.output
    told = " ".join(found.stderr.split())
    assert "self-test right" in told and "3,000,000 baud" in told and " s at this rate" in told
    board, simulated = json.loads(found.stdout), json.loads(expected.stdout)
    assert board["tokens"] == simulated["tokens"] and len(board["tokens"]) == 8
    assert board["weights"] is None and simulated["weights"] > 0, "a board does not count them"


@pytest.mark.slow  # builds the simulator of the whole board
def test_a_port_and_the_simulated_board_behave_the_same(bundle, tmp_path):
    """The same tokens, and the same keys in what is told; its evidence alone is another."""
    arguments = ["run", str(bundle), "--push", "1,7,3", "-n", "4", "--temperature", "0.9", "--seed", "2", "--json"]
    with SerialPort(tmp_path / "tty", load_core("ulx3s"), SIZE) as port:
        on_port = CliRunner().invoke(main, [*arguments, "--target", "ulx3s", "--port", str(port.path)])
    simulated = CliRunner().invoke(main, [*arguments, "--target", "sim:ulx3s"])
    assert on_port.exit_code == simulated.exit_code == 0, on_port.output + simulated.output
    found, expected = json.loads(on_port.stdout), json.loads(simulated.stdout)
    assert found["tokens"] == expected["tokens"] and len(found["tokens"]) == 4
    assert set(found) == set(expected) and found["counters"].keys() == expected["counters"].keys()
    assert "self-test right" in " ".join(on_port.stderr.split()) and "self-test right" in " ".join(simulated.stderr.split())


def test_a_cable_that_is_pulled_and_put_back_while_the_image_is_loaded(tmp_path, rng):
    data = np.frombuffer(rng.bytes(8 * BLOCK_BYTES + 40), np.uint8)
    with SerialPort(tmp_path / "tty", load_core("ulx3s"), SIZE, unplug_after=5 * BLOCK_BYTES) as port:
        with Board(SerialTransport(str(port.path), 1_000_000)) as board:
            board.negotiate()
            assert board.load(data) > len(data)
        assert port.unplugged == 1 and (port.board.memory[: len(data)] == data).all()


@pytest.mark.parametrize("what", ["write", "read", "send_break", "set_baud"])
def test_a_cable_that_is_pulled_is_told_wherever_it_is_noticed(what):
    """termios has an error of its own, which pyserial hands on."""
    master, slave = os.openpty()
    tty.setraw(slave)
    with SerialTransport(os.ttyname(slave), 1_000_000) as line:
        os.close(slave)
        os.close(master)
        with pytest.raises(LineLostError):
            getattr(line, what)(*{"write": [b"abc"], "read": [0.1], "send_break": [], "set_baud": [3_000_000]}[what])
