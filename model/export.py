"""From a PyTorch module to a torch-free graph (``trilobit.model.graph``), by symbolic tracing.

Works for any ``nn.Module`` that maps ``input_ids`` [B, T] to logits [B, T, V] and is built from :class:`BitLinear`,
:class:`RMSNorm`, :class:`LinearRecurrence`, ``nn.Embedding`` and plain arithmetic on vectors of a token. Those modules
are leaves of the trace; what depends on parameters alone is computed here and becomes ``constant`` nodes.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from trilobit.errors import ModelError
from trilobit.model.checkpoint import packed_tensors, write_config
from trilobit.model.evaluator import evaluate_float
from trilobit.model.files import atomic_folder
from trilobit.model.graph import Graph, Node, UnsupportedOperation, save_graph
from trilobit.model.mapping import CheckResult, Mapper, Operation, Vector, trace
from trilobit.model.ranges import calibrate, estimate_ranges
from trilobit.model.reference import MatMulFreeLM

__all__ = ["CheckResult", "Operation", "build_graph", "check_graph", "export_graph"]


def _in_eval_mode(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run with the module in eval mode, as it is used, and put its mode back."""

    def wrapped(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        modes = {m: m.training for m in module.modules()}
        module.eval()
        try:
            return function(module, *args, **kwargs)
        finally:
            for m, mode in modes.items():
                m.training = mode

    wrapped.__doc__, wrapped.__name__ = function.__doc__, function.__name__
    return wrapped


@_in_eval_mode
def check_graph(module: nn.Module) -> CheckResult:
    """Which operations of a module map onto the accelerator and which do not; never fails on an operation."""
    try:
        traced = trace(module)
    except UnsupportedOperation as error:
        return CheckResult(unmapped=[Operation("forward", "", str(error))])
    mapper = Mapper(traced, strict=False)
    mapper.run()
    return mapper.result


@_in_eval_mode
def build_graph(module: nn.Module, verify: bool = True) -> tuple[Graph, dict[str, np.ndarray]]:
    """Trace a module into a graph without ranges, and the tensors it uses by name.

    Args:
        module: maps input_ids [B, T] to logits [B, T, V].
        verify: compare the graph with the module on 32 random tokens.

    Returns:
        The graph; tensors: packed trits uint8, embeddings fp16, gains and constants fp32.

    Raises:
        UnsupportedOperation: the first operation without a mapping, with its module path and what is supported.
        ModelError: the module is no language model over tokens, or the graph does not compute what it does.
    """
    mapper = Mapper(trace(module), strict=True)
    mapper.run()
    if not isinstance(mapper.output, Vector) or mapper.output.length is None or len(mapper.embeddings) == 0:
        raise ModelError("export: expected a module that embeds input_ids [B, T] and returns logits [B, T, V] alone")
    rows = {mapper.tensors[name].shape[0] for name in mapper.embeddings}
    if rows != {mapper.output.length}:
        raise ModelError(f"export: expected logits as long as the vocabulary, got {mapper.output.length} for {rows}")
    config = getattr(module, "config", None)
    values = module.config.to_dict() if isinstance(module, MatMulFreeLM) else None
    graph = Graph(
        config=values,
        vocab_size=mapper.output.length,
        bos_token_id=getattr(config, "bos_token_id", None),
        eos_token_id=getattr(config, "eos_token_id", None),
        nodes=_needed(mapper.nodes, mapper.output.name),
        outputs=[mapper.output.name],
    )
    used = set(graph.tensor_names())
    tensors = {n: _storage(t.detach().cpu(), n in mapper.embeddings) for n, t in mapper.tensors.items() if n in used}
    if verify:
        # With the embeddings as the module has them: rounding to fp16 is no fault of the export.
        exact = {name: mapper.tensors[name].detach().float().cpu().numpy() for name in mapper.embeddings}
        _verify(module, graph, {**tensors, **exact})
    return graph, tensors


def _needed(nodes: list[Node], output: str) -> list[Node]:
    """The nodes that the output depends on, and the token, in their order."""
    wanted = {output, nodes[0].name}
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    # What a later token needs is needed, too, and what that depends on.
    while later := {node.attrs["of"] for node in nodes if node.op == "previous" and node.name in wanted} - wanted:
        wanted |= later
        for node in reversed(nodes):
            if node.name in wanted:
                wanted.update(node.inputs)
    return [node for node in nodes if node.name in wanted]


def _storage(tensor: Tensor, is_embedding: bool) -> np.ndarray:
    if tensor.dtype == torch.uint8:
        return np.ascontiguousarray(tensor.numpy())
    values = tensor.float().contiguous().numpy()
    # Half precision is finer than the 16-bit fixed point the accelerator reads; beyond its range fp32 stays.
    return values.astype(np.float16) if is_embedding and np.abs(values).max() < 6e4 else values


def _verify(module: nn.Module, graph: Graph, tensors: dict[str, np.ndarray]) -> None:
    ids = np.random.default_rng(0).integers(0, graph.vocab_size, 32)
    with torch.no_grad():
        device = next(module.parameters(), torch.empty(0)).device
        expected = module(torch.from_numpy(ids)[None].to(device))[0].double().cpu().numpy()
    got = evaluate_float(graph, tensors, ids)
    cosine = float((expected * got).sum() / max(np.linalg.norm(expected) * np.linalg.norm(got), 1e-30))
    if not cosine > 0.999:  # an int8 value that rounds the other way costs less; a wrong graph costs more
        raise ModelError(
            f"export: the graph's logits differ from the module's on 32 random tokens (cosine {cosine:.6f}, expected "
            "above 0.999); does the forward mix tokens other than through LinearRecurrence?"
        )


def export_graph(
    module: nn.Module,
    folder: str | Path,
    *,
    calibration_ids: Iterable[int] | None = None,
    tokenizer: str | Path | None = None,
    source: str = "calibration_ids",
    eos_token_id: int | None = None,
    bos_token_id: int | None = None,
) -> Graph:
    """Write ``graph.json`` and ``model.safetensors``: what the compiler reads.

    A :class:`MatMulFreeLM` also gets its ``config.json`` and every packed tensor, so that the folder can be read back
    with ``load_pretrained`` (the packed layout, docs/reference/graph-format.md).

    Args:
        module: maps input_ids [B, T] to logits [B, T, V].
        folder: created, or its files of those names replaced; untouched if anything fails.
        calibration_ids: tokens of a typical text, of at least some thousand, to measure ranges on. Without them the
            ranges are estimated from the weights (``trilobit.model.ranges.estimate_ranges``).
        tokenizer: a ``tokenizer.json`` to copy beside the graph.
        source: what the calibration text is, for the record.
        eos_token_id, bos_token_id: where the module has no configuration that says so.

    Raises:
        UnsupportedOperation, ModelError: see :func:`build_graph`.
    """
    graph, tensors = build_graph(module)
    graph.eos_token_id = graph.eos_token_id if eos_token_id is None else eos_token_id
    graph.bos_token_id = graph.bos_token_id if bos_token_id is None else bos_token_id
    if calibration_ids is None:
        estimate_ranges(graph, tensors)
    else:
        calibrate(graph, tensors, calibration_ids, source)
    if tokenizer is not None and not Path(tokenizer).is_file():
        raise ModelError(f"{tokenizer}: no such file; expected a tokenizer.json")
    with atomic_folder(folder) as temporary:
        if isinstance(module, MatMulFreeLM):
            tensors = {**packed_tensors(module), **tensors}
            write_config(module.config, temporary)
        save_file(tensors, temporary / graph.tensors)
        if tokenizer is not None:
            shutil.copyfile(tokenizer, temporary / "tokenizer.json")
        save_graph(graph, temporary)
    return graph
