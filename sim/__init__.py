"""Simulators of the machine: bit-exact, and the RTL itself."""
