"""``python -m trilobit``, the same as ``trilobit``: for torchrun and for interpreters whose scripts are not on the path."""

from trilobit.cli import main

main()
