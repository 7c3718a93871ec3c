"""A user's own module: from ``my_model.py:build`` and a weights file to an exported graph."""

import hashlib
import importlib.util
import sys
from pathlib import Path

from torch import nn

from trilobit.errors import ModelError
from trilobit.model.checkpoint import load_weights
from trilobit.model.data import END, encode, load_tokenizer, read_texts
from trilobit.model.export import export_graph
from trilobit.model.graph import Graph

__all__ = ["build_from_spec", "export_for_compile"]


def build_from_spec(spec: str, weights: str | Path | None = None) -> nn.Module:
    """Call the function that a spec names, and load weights into the module it returns.

    Args:
        spec: ``FILE.py:FUNCTION``; the file is run as Python, so it must be trusted. The function takes no arguments.
        weights: a safetensors file whose keys are exactly the module's; without it the module keeps its own.

    Raises:
        ModelError: no such file or function, it raised or returned no module, or the weights do not fit: a missing or
            unknown key, a wrong shape, NaN or infinity.
    """
    file, _, function = spec.rpartition(":")
    path = Path(file)
    if not file or not function.isidentifier():
        raise ModelError(f"model: expected FILE.py:FUNCTION, such as my_model.py:build, got {spec!r}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a Python file that defines {function}()")
    # A name of its own: two files may be called the same, and classes must find their module in sys.modules.
    name = f"trilobit_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ModelError(f"{path}: expected a Python file, with the suffix .py")
    namespace = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = namespace
    sys.path.insert(0, str(path.resolve().parent))  # so that it can import its neighbours
    try:
        module_spec.loader.exec_module(namespace)
        build = getattr(namespace, function, None)
        if not callable(build):
            raise ModelError(f"{path}: defines no function {function}()")
        module = build()
    except ModelError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{spec}: failed with {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{spec}: expected a torch.nn.Module, got {type(module).__name__}")
    if weights is not None:
        load_weights(module, Path(weights), packed=False)
    return module.eval()


def export_for_compile(
    spec: str,
    weights: str | Path | None,
    calibrate_text: str | Path | None,
    tokenizer: str | Path | None,
    out_folder: str | Path,
) -> Graph:
    """Build a user's module and export it: graph, tensors, tokenizer.

    Args:
        spec, weights: see :func:`build_from_spec`.
        calibrate_text: a text file to measure ranges on; it needs the tokenizer. Without it they are estimated from
            the weights (``trilobit.model.ranges.estimate_ranges``).
        tokenizer: the model's ``tokenizer.json``; may be None without a text.
        out_folder: as for ``export_graph``.

    Raises:
        ModelError, UnsupportedOperation: see :func:`build_from_spec` and ``export_graph``.
    """
    module = build_from_spec(spec, weights)
    ids, end = None, None
    if tokenizer is not None:
        vocabulary = load_tokenizer(tokenizer)
        end = vocabulary.token_to_id(END)
        if calibrate_text is not None:
            ids = encode(vocabulary, read_texts([calibrate_text]))
    elif calibrate_text is not None:
        raise ModelError(f"{calibrate_text}: calibration needs the model's tokenizer.json, found none beside its weights; see --tokenizer")
    source = Path(calibrate_text).name if calibrate_text is not None else ""
    return export_graph(module, out_folder, calibration_ids=ids, tokenizer=tokenizer, source=source, eos_token_id=end, bos_token_id=end)
