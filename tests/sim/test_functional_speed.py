"""The functional simulator on a model of full size: fast enough to use, small enough for any machine."""

import json
import subprocess
import sys

import pytest

# A process of its own, so that its memory is its own. Random weights; the prompt is one token.
GENERATE = """
import json, resource, sys, time
from trilobit.assembler.geometry import compile_geometry, random_memory
from trilobit.sim.backend import HostSettings
from trilobit.sim.functional import FunctionalSimulator
compiled = compile_geometry("370m", "axi512")
memory = random_memory(compiled)
simulator = FunctionalSimulator(compiled.core, compiled.program, memory, HostSettings(limit=5), native=sys.argv[1] == "native")
simulator.push([1])
at = []
result = simulator.run(lambda token: at.append(time.process_time()))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": (at[-1] - at[0]) / (len(at) - 1), "peak": peak, "tokens": result.tokens, "weights": result.weights}))
"""


@pytest.mark.slow
def test_370m_generates_two_tokens_a_second_in_two_gigabytes():
    """Processor time, on one thread: other processes don't count. With the compiled product and without a compiler."""
    found = {}
    for form in ("native", "numpy"):
        done = subprocess.run([sys.executable, "-c", GENERATE, form], capture_output=True, text=True, check=True)
        found[form] = json.loads(done.stdout)
        print(form, found[form])
        assert found[form]["seconds"] < 0.5
        assert found[form]["peak"] < 2 << 30
    assert found["native"]["tokens"] == found["numpy"]["tokens"] and len(found["native"]["tokens"]) == 5
    assert found["native"]["weights"] == 5 * 341_049_344
    assert found["native"]["peak"] < 1 << 30
