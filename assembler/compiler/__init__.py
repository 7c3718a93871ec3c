"""The compiler: from an exported model graph to a program and a memory image for one core.

Passes, each a module: :mod:`.importer` reads the graph, :mod:`.lower` folds norms and makes machine values (:mod:`.ir`),
:mod:`.points` chooses binary points, :mod:`.select` makes instructions (:mod:`.norms` those of the norm unit),
:mod:`.schedule` orders them, :mod:`.allocate` gives registers and spills, :mod:`.stream` and :mod:`.layout` place
everything in memory, :mod:`.emit` writes the token loop. docs/decisions/0002-compiler.md says why.
"""

from trilobit.assembler.compiler.importer import SUPPORTED, Check, Operation, check_folder
from trilobit.assembler.compiler.pipeline import Compiled, check_model, compile_graph, compile_model, resolve
from trilobit.assembler.compiler.points import Policy

__all__ = ["SUPPORTED", "Check", "Compiled", "Operation", "Policy", "check_folder", "check_model", "compile_graph", "compile_model",
           "resolve"]  # fmt: skip
