"""The lean core: the same instruction set on one serial vector engine, run by microcode. See docs/decisions/0008-lean.md."""
