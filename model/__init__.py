"""The PyTorch reference: model, quantisation, import, training, export.

Importing this package needs no torch; using a name that does gives a clear error with the line that installs it.
``trilobit.model.graph`` (the exported form) never needs torch.
"""

import importlib
from typing import Any

from trilobit.errors import ToolError

# Public name -> the module that holds it. Loaded on first use, so that running a compiled model needs no torch.
_HOMES = {
    "ModelConfig": "config",
    "MatMulFreeLM": "reference",
    "BitLinear": "reference",
    "RMSNorm": "reference",
    "LinearRecurrence": "reference",
    "load_pretrained": "checkpoint",
    "save_packed": "checkpoint",
    "export_graph": "export",
    "check_graph": "export",
    "build_from_spec": "spec",
    "export_for_compile": "spec",
    "reference_logits": "evaluate",
    "evaluate_text": "evaluate",
    "bits_per_character": "evaluate",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        raise ToolError(
            f"trilobit.model.{name} needs PyTorch, which is not installed; install it with: pip install 'trilobit[model]'"
        ) from error
    return getattr(module, name)
