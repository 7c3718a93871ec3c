"""The UART's receiver and transmitter, apart."""

import pytest
from support import run_cocotb

from trilobit.hdl.uart import UartReceiver, UartTransmitter


@pytest.mark.parametrize("divisor", [4, 60])
@pytest.mark.parametrize(("side", "unit"), [("receiver", UartReceiver), ("transmitter", UartTransmitter)])
def test_uart_keeps_bytes_and_bit_times(side, unit, divisor, seed):
    simulators = ("verilator", "icarus") if divisor == 60 else ("icarus",)
    run_cocotb(unit(divisor), f"uart_{side}", "cocotb_uart", env={"DIVISOR": divisor, "SIDE": side}, simulators=simulators, seed=seed)
