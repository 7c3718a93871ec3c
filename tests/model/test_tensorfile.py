"""safetensors tensor by tensor, against the library."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trilobit.errors import ModelError
from trilobit.model.tensorfile import Entry, TensorReader, TensorWriter, float32_of

TENSORS = {
    "a": torch.randn(7, 3).bfloat16(), "b": torch.randn(5), "c": torch.arange(6, dtype=torch.uint8).reshape(2, 3),
    "d": torch.randn(2, 2, dtype=torch.float64), "e": torch.randn(3).half(), "f": torch.zeros(0, 4),
}  # fmt: skip
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.uint8: "U8", torch.float64: "F64", torch.float16: "F16"}


def array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def test_reads_what_the_library_wrote(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", {"format": "pt"})
    reader = TensorReader(tmp_path / "x.safetensors")
    assert set(reader.entries) == set(TENSORS)
    for name, tensor in TENSORS.items():
        entry = reader.entries[name]
        assert (entry.dtype, entry.shape) == (NAMES[tensor.dtype], tuple(tensor.shape))
        for data in (reader.read(name), reader.map(name)):
            assert np.array_equal(data, array(tensor))
            assert np.array_equal(float32_of(data, entry.dtype), tensor.float().numpy())


def test_the_library_reads_what_was_written(tmp_path):
    path = tmp_path / "x.safetensors"
    entries = {name: Entry(NAMES[t.dtype], tuple(t.shape)) for name, t in TENSORS.items()}
    with TensorWriter(path, entries, {"format": "pt"}) as writer:
        for name, tensor in reversed(TENSORS.items()):
            if name != "a":
                writer.write(name, array(tensor))
        writer.write_rows("a", 0, array(TENSORS["a"])[:4])
        writer.write_rows("a", 4, array(TENSORS["a"])[4:])
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    assert all(TensorReader(path).entries[n].start % t.element_size() == 0 for n, t in TENSORS.items())


def test_rows_are_converted_to_the_files_type(tmp_path):
    rows = np.random.default_rng(0).standard_normal((90, 11)).astype(np.float32)
    with TensorWriter(tmp_path / "x.safetensors", {"h": Entry("F16", (90, 11))}) as writer:
        for start in range(0, 90, 32):
            writer.write_rows("h", start, rows[start : start + 32])
    assert np.array_equal(load_file(tmp_path / "x.safetensors")["h"].numpy(), rows.astype(np.float16))


def test_misuse_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not written: b"), TensorWriter(tmp_path / "x", {"b": Entry("F32", (2,))}):
        pass
    with (
        pytest.raises(ValueError, match=r"b: expected F32 \(2,\), got float64"),
        TensorWriter(tmp_path / "x", {"b": Entry("F32", (2,))}) as w,
    ):
        w.write("b", np.zeros(2))


def test_damage_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    reader = TensorReader(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="truncated or damaged"):
        TensorReader(path)
    last = max(reader.entries, key=lambda name: reader.entries[name].start)
    with pytest.raises(ModelError, match=f"{last}: the file ends within it"):
        reader.read(last)
    with pytest.raises(ModelError, match="no such file"):
        TensorReader(tmp_path / "none.safetensors")
