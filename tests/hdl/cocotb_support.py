"""The shared coroutines, tried on a component that adds one with a cycle of latency."""

import cocotb
from support import assert_stream, cycle, get, put, random_numbers, start, step


@cocotb.test()
async def adds_one_after_a_cycle(dut):
    await start(dut)
    rng = random_numbers()
    for value in rng.integers(0, 256, 20).tolist():
        assert await put(dut, "i", payload=value) == 0
        await cycle(dut)
        assert dut.o__valid.value == 1, "the result is there in the cycle after the input was taken"
        await step(dut)
        assert await get(dut, "o", "payload") == ((value + 1) % 256,)


@cocotb.test()
async def waits_for_a_slow_consumer(dut):
    await start(dut)
    cocotb.start_soon(put(dut, "i", payload=7))
    await step(dut, 3)
    second = cocotb.start_soon(put(dut, "i", payload=9))
    await step(dut, 5)
    await assert_stream(dut, "o", payload=8)
    assert await second == 5, "the second item waited until the first was taken"
    await assert_stream(dut, "o", payload=10)


@cocotb.test()
async def fails(dut):
    await start(dut)
    await put(dut, "i", payload=1)
    await assert_stream(dut, "o", payload=1)
