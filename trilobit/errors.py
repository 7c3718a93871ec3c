"""The errors a user can cause. The command line prints the message and exits with code 2.

A message says what was expected, what came and what to do about it.
"""

__all__ = ["BundleError", "CompileError", "ConfigError", "FaultError", "HostError", "ModelError", "ProgramError", "ToolError",
           "TrilobitError"]  # fmt: skip


class TrilobitError(Exception):
    """Base of every error that a user can cause."""


class ConfigError(TrilobitError):
    """A core preset, a memory description or an option that doesn't make sense."""


class ProgramError(TrilobitError):
    """An assembly or binary program that is wrong."""


class ModelError(TrilobitError):
    """A checkpoint, configuration or tokenizer that can't be used."""


class CompileError(TrilobitError):
    """A graph that can't be mapped onto the machine."""


class BundleError(TrilobitError):
    """A bundle that is incomplete, damaged or of another schema version."""


class FaultError(TrilobitError):
    """The machine stopped on a fault while it ran a program."""


class HostError(TrilobitError):
    """A board that does not answer, refuses, or computes wrong."""


class ToolError(TrilobitError):
    """An external tool is missing or failed."""
