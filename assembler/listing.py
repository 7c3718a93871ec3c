"""The listing of an assembled program: where each instruction and region ended up."""

from trilobit.assembler.asm import Assembly

__all__ = ["listing"]


def listing(assembly: Assembly) -> str:
    """Every source line with the index of its word (hexadecimal) and its 32 digits, then the memory window's regions."""
    program = assembly.program
    out = [f"; {program.name}: {len(program.code)} instructions, core {program.core or 'any'}"]
    file = None
    for line, index in assembly.lines:
        if line.file is not file:
            file = line.file
            out.append(f"; file {file.name}")
        head = " " * 38 if index is None else f"{index:04x}  {program.code[index]:032x}"
        out.append(f"{head}  {line.text}".rstrip())
    out.append(f"; window {program.window_size} bytes, writable from {program.write_start:#x}")
    for region in program.regions.values():
        access = "writable" if region.writable else "readonly"
        out.append(f"; {region.addr:#010x}  {region.size:>10} bytes  {access}  {region.name}")
    return "\n".join(out) + "\n"
