"""A compiled model as a folder: program, memory image, manifest and report. docs/reference/bundle.md describes it."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trilobit.assembler.checks import alignment
from trilobit.errors import BundleError, ProgramError, TrilobitError
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Program
from trilobit.isa.slots import element_places, stored_elements
from trilobit.isa.spec import ISA

__all__ = ["SCHEMA", "VERSION", "Bundle", "Logits", "Manifest", "Point", "RegionEntry", "load_bundle", "logit_places", "save_bundle",
           "teacher_forced", "tile_pitch"]  # fmt: skip

SCHEMA = "trilobit-bundle"
VERSION = 1
MANIFEST, SOURCE, PROGRAM, IMAGE, REPORT, TOKENIZER = (
    "manifest.json", "program.s", "program.bin", "image.bin", "report.json", "tokenizer.json",
)  # fmt: skip


class RegionEntry(msgspec.Struct, frozen=True):
    """A region of the memory window: byte offset and size, NumPy element type or null, whether stores may change it."""

    name: str
    addr: int
    size: int
    element: str | None
    writable: bool


class Point(msgspec.Struct, frozen=True):
    """The fixed-point form of a vector: ``real = integer * 2^-point``, in ``bits`` bits."""

    point: int
    bits: int


class Logits(msgspec.Struct, frozen=True):
    """Length and binary point of the logits; ``addr`` of the region they are stored to (32 bits each), or null.

    They are stored in tiles of ``tile`` rows (null: one tile, without a gap), each as ``sv`` lays it out: :func:`logit_places`.
    """

    length: int
    point: int
    addr: int | None
    tile: int | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds.

    Attributes:
        name: the model's.
        trilobit, isa: versions it was made with.
        geometry: the model's configuration as exported (may be empty), and always ``vocab_size``.
        core: the parameters of the core it was compiled for; ``batch`` is left out by older releases, which had none but 1.
        window_size, write_start: bytes of the memory window, and of its read-only part (the size of image.bin).
        weights_per_token: ternary weights, without padding, that a token with logits streams; ``prompt_weights`` without. With a
            batch above one a pass over the weights makes a token of each sequence.
        checksums: SHA-256 of each file.
        calibration: tokens and source of the ranges, or null.
        tokenizer: its file in the bundle, or null.
    """

    schema: str = SCHEMA
    version: int = VERSION
    name: str
    trilobit: str
    isa: int
    geometry: dict[str, Any]
    core: dict[str, Any]
    window_size: int
    write_start: int
    regions: list[RegionEntry]
    points: dict[str, Point]
    logits: Logits
    weights_per_token: int
    prompt_weights: int
    bos_token_id: int | None
    eos_token_id: int | None
    calibration: dict[str, Any] | None
    tokenizer: str | None
    checksums: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
        program: instructions and regions (without data; that is in the image).
        image: the read-only part of the window, [write_start] of uint8, mapped from the file.
        report: what the compiler reported, as in report.json.
    """

    folder: Path
    manifest: Manifest
    program: Program
    image: np.ndarray
    report: dict[str, Any]

    @property
    def core(self) -> CoreConfig:
        """The core it was compiled for."""
        return CoreConfig(**self.manifest.core)

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer's file, or None."""
        return self.folder / self.manifest.tokenizer if self.manifest.tokenizer else None

    def memory(self) -> np.ndarray:
        """The memory window as a program starts with it: [window_size] of uint8, a writable copy."""
        memory = np.zeros(self.manifest.window_size, dtype=np.uint8)
        memory[: self.manifest.write_start] = self.image
        return memory


def tile_pitch(rows: int, core: CoreConfig) -> int:
    """Bytes from one tile of ``rows`` stored logits to the next."""
    return -(-4 * stored_elements(core, rows) // alignment(core)) * alignment(core)


def logit_places(logits: Logits, core: CoreConfig) -> np.ndarray:
    """Where the logits of each slot stand behind ``addr``, in elements of 32 bits: [batch, length] of int64."""
    tile = logits.tile or logits.length
    pitch = tile_pitch(tile, core) // 4
    parts = [start // tile * pitch + element_places(core, min(tile, logits.length - start)) for start in range(0, logits.length, tile)]
    return np.concatenate(parts, axis=1)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_bundle(
    folder: str | Path,
    *,
    program: Program,
    source: str,
    image: np.ndarray,
    report: dict[str, Any],
    tokenizer: Path | None,
    manifest: Callable[[dict[str, str]], Manifest],
) -> Path:
    """Write a bundle into a temporary folder and rename it; an older bundle of that name is replaced.

    Args:
        folder: its name.
        program, source, image, report: the contents.
        tokenizer: a tokenizer.json to copy, or None.
        manifest: makes the manifest from the checksums of the other files.

    Raises:
        BundleError: the folder exists and is no bundle, or can't be written.
    """
    folder = Path(folder)
    if folder.resolve() == Path.cwd():
        raise BundleError(f"{folder}: expected a new name or a bundle to replace, got the folder that this runs in")
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder}: exists and is no bundle; expected a new name or a bundle to replace")
    temporary = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        (temporary / SOURCE).write_text(source, encoding="utf-8")
        program.save(temporary / PROGRAM)
        image.tofile(temporary / IMAGE)
        (temporary / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        if tokenizer is not None:
            shutil.copyfile(tokenizer, temporary / TOKENIZER)
        checksums = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        text = msgspec.json.format(msgspec.json.encode(manifest(checksums)), indent=1)
        (temporary / MANIFEST).write_bytes(text + b"\n")
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except OSError as error:
        raise BundleError(f"{folder}: can't be written: {error.strerror or error}") from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check it: schema version, every checksum, the program and the image's size.

    Raises:
        BundleError: incomplete, damaged, or of another version; the message names the file.
    """
    folder = Path(folder)
    manifest = _manifest(folder / MANIFEST)
    if wrong := [name for name in manifest.checksums if Path(name).name != name]:
        raise BundleError(f"{folder / MANIFEST}: expected file names without folders, got {wrong[0]!r}")
    for name in sorted({PROGRAM, IMAGE, REPORT, SOURCE} | set(manifest.checksums)):
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: missing; the bundle is incomplete, compile the model again")
        if name not in manifest.checksums:
            raise BundleError(f"{folder / MANIFEST}: expected a checksum of {name}, got none")
        if (found := _sha256(path)) != manifest.checksums[name]:
            raise BundleError(
                f"{path}: damaged: SHA-256 is {found[:12]}..., the manifest has {manifest.checksums[name][:12]}...; compile the model again"
            )
    if manifest.tokenizer is not None and manifest.tokenizer not in manifest.checksums:
        raise BundleError(f"{folder / MANIFEST}: expected a checksum of {manifest.tokenizer!r}, got none")
    try:
        program = Program.load(folder / PROGRAM)
        CoreConfig(**manifest.core)
        report = msgspec.json.decode((folder / REPORT).read_bytes(), type=dict[str, Any])
    except (TrilobitError, TypeError, msgspec.DecodeError) as error:
        raise BundleError(f"{folder}: {error}") from error
    size = (folder / IMAGE).stat().st_size
    sizes = (manifest.window_size, manifest.write_start)
    if size != manifest.write_start or (program.window_size, program.write_start) != sizes:
        raise BundleError(
            f"{folder}: expected image, program and manifest to agree on the window, got an image of {size} bytes, "
            f"window_size and write_start {program.window_size}, {program.write_start} and {sizes[0]}, {sizes[1]}"
        )
    image = np.memmap(folder / IMAGE, dtype=np.uint8, mode="r") if size else np.zeros(0, dtype=np.uint8)
    return Bundle(folder, manifest, program, image, report)


class _Head(msgspec.Struct):
    """Only what identifies a manifest, read first: another version may have other keys."""

    schema: str
    version: int


def _manifest(path: Path) -> Manifest:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: can't be read ({error.strerror}); expected a bundle, the folder that `trilobit compile` writes"
        ) from error
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.schema != SCHEMA:
            raise BundleError(f"{path}: expected schema {SCHEMA!r}, got {head.schema!r}; this is no bundle")
        if head.version != VERSION:
            raise BundleError(f"{path}: expected schema version {VERSION}, got {head.version}; compile the model again with this release")
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleError(f"{path}: damaged or no manifest: {error}") from error
    if manifest.isa != ISA.version:
        raise BundleError(f"{path}: expected instruction set version {ISA.version}, got {manifest.isa}; compile again")
    return manifest


def core_parameters(core: CoreConfig) -> dict[str, Any]:
    """A core as the manifest keeps it."""
    return core.parameters()


def teacher_forced(program: Program) -> Program:
    """A compiled program changed to take every token from the host and to compute logits for each.

    It waits for a token, computes its logits, emits the token that argmax chose and waits for the next; nothing is fed
    back, and it never halts. For evaluation, with logits stored (``store_logits``).

    Raises:
        ProgramError: not the token loop that the compiler writes.
    """
    names = [ISA.decode(word).name for word in program.code]
    expected = {"poll": 1, "bprompt": 2, "bdone": 1, "wait": 1}
    if {name: names.count(name) for name in expected} != expected or names.index("bdone") != names.index("emit") + 1:
        raise ProgramError(f"program {program.name!r}: expected a compiled token loop (one poll, two bprompt, one bdone)")
    replacements = {"poll": ISA.encode("nop"), "bprompt": ISA.encode("nop"), "bdone": ISA.encode("wait")}
    code = [replacements.get(name, word) for name, word in zip(names, program.code, strict=True)]
    return replace(program, code=code)
