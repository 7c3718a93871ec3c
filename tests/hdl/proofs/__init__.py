"""Harnesses that wrap a unit with what its surroundings promise and what it must hold, and the solver that proves it."""
