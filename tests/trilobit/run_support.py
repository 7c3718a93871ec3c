"""A bundle made by hand: a "model" over bytes whose next byte is the last one plus one, with a byte-level tokenizer."""

import numpy as np
import tokenizers

from trilobit import __version__
from trilobit.assembler import assemble, disassemble
from trilobit.assembler.bundle import Logits, Manifest, core_parameters, save_bundle
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA

__all__ = ["VOCABULARY", "byte_tokenizer", "make_bundle"]

VOCABULARY = 256
EMPTY = {"points": {}, "regions": [], "geometry": {"vocab_size": VOCABULARY}, "calibration": None}


def byte_tokenizer(folder):
    """One token a byte; ids are the alphabet's order, so encode and decode are only looked at together."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(folder / "bytes.json"))
    return folder / "bytes.json"


def successor_program():
    """Rows of the table are one-hot in two parts of 16: token = 16 high + low; logits come from 16 + 16 activations.

    Token t's successor has the largest of 256 logits in four tiles of 64.
    """
    table = np.zeros((VOCABULARY, 32), dtype=int)
    heads = []
    for token in range(VOCABULARY):
        table[token, token // 16] = table[token, 16 + token % 16] = 1000
    for token in range(VOCABULARY):
        before = (token - 1) % VOCABULARY
        row = np.full(32, "0")
        row[[before // 16, 16 + before % 16]] = "+"
        heads.append("".join(row))
    rows = "\n".join("  .i16 " + ", ".join(map(str, row)) for row in table)
    matrices = "\n".join(
        f"m{k}:\n  .ternary 64, 32, scale=1/127\n" + "\n".join("    " + r for r in heads[64 * k : 64 * k + 64]) for k in range(4)
    )
    tiles = "\n".join(
        f"    tmatmul v1, a0, [m{k}], len=64, bp=0\n"
        f"    argmax v1, len=64, base={64 * k}, sha=9, noise{', first' * (k == 0)}{', last' * (k == 3)}"
        for k in range(4)
    )
    return assemble(
        f""".core tiny
.region table, readonly, i16
{rows}
.region weights, readonly, stream
{matrices}
    wait
token:
    poll
    bprompt token
    emb v0, [table], len=32, pitch=64, rows=256
    stream [weights], beats=weights.beats
    normq a0, v0, s0, len=32
{tiles}
    emit
    bdone end
    jump token
end:
    halt
"""
    )


def make_bundle(folder, tokenizer, **changes):
    program = successor_program()
    values = {
        "name": "bytes", "trilobit": __version__, "isa": ISA.version, "core": core_parameters(load_core("tiny")),
        "window_size": program.window_size, "write_start": program.write_start, "logits": Logits(VOCABULARY, 9, None),
        "weights_per_token": VOCABULARY * 32, "prompt_weights": 0, "bos_token_id": None, "eos_token_id": None,
        "tokenizer": "tokenizer.json" if tokenizer else None,
    } | EMPTY | changes  # fmt: skip
    return save_bundle(
        folder, program=program, source=disassemble(program), image=program.memory()[: program.write_start], report={},
        tokenizer=tokenizer, manifest=lambda checksums: Manifest(checksums=checksums, **values),
    )  # fmt: skip
