"""The names of the performance counters, in the order in which the host reads them."""

__all__ = ["COUNTERS", "STALLS"]

# Why the program counter didn't issue in a cycle; at most one cause a cycle, the first that holds in this order.
STALLS = ("fetch", "unit_ldst", "unit_rmsnorm", "unit_tmatmul", "unit_rowwise", "read_port", "write_port", "activations", "token",
          "stream_queue", "host", "output", "drain")  # fmt: skip
COUNTERS = (
    "cycles", "issued",
    *(f"stall_{cause}" for cause in STALLS),
    "busy_ldst", "busy_rmsnorm", "busy_tmatmul", "busy_rowwise",
    "matmul_beats", "matmul_wait_weights", "matmul_wait_activations", "matmul_wait_output",
    "stream_read_beats", "ldst_read_beats", "write_beats", "saturated",
)  # fmt: skip
