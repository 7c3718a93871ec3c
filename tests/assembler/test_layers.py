"""The report by layers: what it counts, and where it puts what has no layer."""

from trilobit.assembler.layers import layer_report


def vector(name, module, bits=16, **values):
    return {"name": name, "module": module, "bits": bits, "operation": "mul", "headroom_bits": 1.5, "rms": 0.5, "point": 12, **values}


TENSORS = [
    vector("a", "model.layers.0.attn", headroom_bits=0.25),
    vector("b", "model.layers.0.mlp", rms=2.0**-6),
    vector("c", "model.layers.0", bits=32, headroom_bits=-3, rms=2.0**-20),
    vector("lb", "model.layers.10.attn", operation="const", headroom_bits=0, rms=2.0**-10),
    vector("d", "model.layers.10.attn", headroom_bits=None, rms=None),
    vector("e", "layer.2.mix"),
    vector("f", "model.norm"),
    vector("g", ""),
]


def test_one_entry_a_layer_in_their_order():
    report = layer_report(TENSORS, None)
    assert [layer["layer"] for layer in report] == [0, 2, 10, "other"]
    assert [(layer["vectors_16"], layer["vectors_32"]) for layer in report] == [(2, 1), (1, 0), (2, 0), (2, 0)]
    assert all(layer["saturated"] is None and layer["most"] is None for layer in report)


def test_the_worst_of_the_computed_16_bit_vectors():
    first, second, tenth, other = layer_report(TENSORS, None)
    assert (first["headroom_bits"], first["resolution_bits"], first["narrowest"]) == (0.25, 6.0, "b")
    assert (second["headroom_bits"], second["resolution_bits"], second["narrowest"]) == (1.5, 11.0, "e")
    assert (tenth["headroom_bits"], tenth["resolution_bits"], tenth["narrowest"]) == (None, None, None)
    assert other["headroom_bits"] == 1.5


def test_saturations_of_vectors_and_of_their_products_parts():
    """A product's activations and mean square are named after it."""
    found = {"a": 2, "b.act": 5, "c.rms": 1, "f": 3, "unknown": 4}
    first, second, _, other = layer_report(TENSORS, found)
    assert (first["saturated"], first["most"]) == (8, "b.act")
    assert (second["saturated"], second["most"]) == (0, None)
    assert (other["saturated"], other["most"]) == (7, "unknown")


def test_a_headroom_of_nothing_is_kept():
    """Zero is the smallest there is, whichever comes first."""
    for order in ([0.0, 1.0], [1.0, 0.0]):
        tensors = [vector(f"v{n}", "layers.0", headroom_bits=value) for n, value in enumerate(order)]
        assert layer_report(tensors, None)[0]["headroom_bits"] == 0.0
