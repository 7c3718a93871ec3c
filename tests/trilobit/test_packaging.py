"""What a wheel and an sdist carry: read from pyproject.toml and MANIFEST.in, as setuptools reads them."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {package: ROOT / SETUP["package-dir"].get(package, package.replace(".", "/")) for package in SETUP["packages"]}


def files_of(package: str) -> set[Path]:
    """The files that a wheel carries for a package: its modules and what package-data names, below the folder of that package."""
    folder = FOLDERS[package]
    patterns = ["*.py", *SETUP["package-data"].get(package, [])]
    return {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}


def test_a_wheel_carries_every_file_of_the_packages_folders():
    """Presets, simulators' sources, templates, models and bitstreams are read at run time; what nobody lists is left out in silence."""
    carried = {path for package in FOLDERS for path in files_of(package)}
    there = {path for folder in FOLDERS.values() for path in folder.rglob("*")
             if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")}  # fmt: skip
    assert {str(path.relative_to(ROOT)) for path in there - carried} == set()


def test_each_pattern_of_the_package_data_finds_a_file():
    for package, patterns in SETUP["package-data"].items():
        for pattern in patterns:
            assert any(FOLDERS[package].glob(pattern)), f"{package}: {pattern}"


def test_an_sdist_carries_what_the_makefile_uses():
    """Its tests and benchmarks, the pins, and the files that tests read: an unpacked sdist is a repository."""
    words = set(re.findall(r"^(?:include|graft) (.*)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE))
    listed = {word for line in words for word in line.split()}
    assert {"Makefile", "constraints.txt", "bench", "docs", "examples", "tests"} <= listed
    assert all((ROOT / name).exists() for name in listed)
