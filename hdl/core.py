"""The accelerator core: four units around eight vector registers, a weight stream, and a program counter."""

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Mux, ResetSignal, signed
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect

from trilobit.hdl.actbuf import ActivationBuffers
from trilobit.hdl.counters import COUNTERS, STALLS, Counters
from trilobit.hdl.interfaces import ELEMENT_BITS, EXPONENT_BITS, Fault, MemorySignature
from trilobit.hdl.ldst import LoadStore
from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.memarb import ReadArbiter
from trilobit.hdl.pc import UNITS, ProgramCounter
from trilobit.hdl.regfile import RegisterFile
from trilobit.hdl.rmsnorm import RMSNorm
from trilobit.hdl.rowwise import RowWise
from trilobit.hdl.stream import StreamFetch
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA

__all__ = ["Core"]

QUEUE_DEPTH = 64
GATED = ("ldst", "rmsnorm", "rowwise")


class Core(wiring.Component):
    """The whole core, with a memory port and the host's signals. Contract and codes: docs/decisions/0001-machine.md.

    After a fault the core must be reset before it is started again; after ``halt`` it can be started at once.

    Parameters
    ----------
    config: core parameters.
    gated_clocks: give the units of ``GATED`` clocks of their own (``clk_<unit>`` inputs), to be ticked with ``clk`` in cycles in which
        ``en_<unit>`` was high before the edge. Ticking them always is the same machine; a simulator saves their evaluation.

    Members
    -------
    mem: the memory port.
    prog_*: instruction memory, written while the core doesn't run. start: a pulse. window_size, write_start, seed, temperature_*, eos,
    limit: settings, stable while the core runs. prompt_*: tokens from the host; out_*: tokens to the host.
    running, halted, waiting, fault, fault_pc: status. retire_*, issue_*: what left and what finished in this cycle.
    dbg_*: register read-out while the core doesn't run. counter_*: see trilobit.hdl.counters.
    """

    def __init__(self, config: CoreConfig, *, gated_clocks: bool = False):
        self.config = config
        self.gated_clocks = gated_clocks
        gates = {f"clk_{u}": In(1) for u in GATED} | {f"en_{u}": Out(1) for u in GATED} if gated_clocks else {}
        super().__init__(gates | {
            "mem": Out(MemorySignature(config)),
            "prog_en": In(1), "prog_addr": In(16), "prog_data": In(ISA.word_bits), "program_length": In(16), "start": In(1),
            "window_size": In(40), "write_start": In(40), "eos": In(24), "limit": In(32),
            "seed": In(32), "temperature_m": In(16), "temperature_e": In(signed(EXPONENT_BITS)),
            "prompt_valid": In(1), "prompt_ready": Out(1), "prompt_token": In(24),
            "out_valid": Out(1), "out_ready": In(1), "out_token": Out(24),
            "running": Out(1), "halted": Out(1), "waiting": Out(1), "fault": Out(4), "fault_pc": Out(16),
            "retire_valid": Out(5), "retire_pc": Out(80), "issue_valid": Out(1), "issue_pc": Out(16),
            "dbg_reg": In(3), "dbg_addr": In(16), "dbg_data": Out(config.lanes * ELEMENT_BITS),
            "counter_select": In(6), "counter_value": Out(48),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        units = {
            "ldst": LoadStore(config), "rmsnorm": RMSNorm(config), "tmatmul": TernaryMatmul(config), "rowwise": RowWise(config),
        }  # fmt: skip
        for name, unit in units.items():
            if self.gated_clocks and name in GATED:
                clock = ClockDomain(name)
                m.domains += clock
                m.d.comb += [clock.clk.eq(getattr(self, f"clk_{name}")), clock.rst.eq(ResetSignal("sync"))]
                m.d.comb += getattr(self, f"en_{name}").eq(unit.active | unit.cmd.valid)
                m.submodules[name] = DomainRenamer(name)(unit)
            else:
                m.submodules[name] = unit
        ldst, rmsnorm, matmul, rowwise = units.values()
        m.submodules.regfile = regfile = RegisterFile(config, reads=6, writes=4)
        m.submodules.actbuf = actbuf = ActivationBuffers(config)
        m.submodules.stream = stream = StreamFetch(config)
        m.submodules.arbiter = arbiter = ReadArbiter(beat_bytes=config.beat_bytes)
        m.submodules.pc = pc = ProgramCounter(config)
        m.submodules.prompts = prompts = SyncFIFO(width=24, depth=QUEUE_DEPTH)
        m.submodules.outputs = outputs = SyncFIFO(width=24, depth=QUEUE_DEPTH)

        # ---- registers and buffers ---------------------------------------------------------------------------------------
        for port, user in enumerate((ldst.read, rmsnorm.a, rmsnorm.b, rowwise.a, rowwise.b, rowwise.c)):
            connect(m, user, regfile.read[port])
        for port, user in enumerate((ldst.write, rmsnorm.write, matmul.write, rowwise.write)):
            connect(m, user, regfile.write[port])
        connect(m, rmsnorm.act, actbuf.write)
        connect(m, matmul.act, actbuf.read)
        connect(m, stream.gain, rmsnorm.gain)
        m.d.comb += [
            regfile.claim.eq(pc.claim), regfile.claim_reads.eq(pc.claim_reads), regfile.claim_writes.eq(pc.claim_writes),
            regfile.claim_words.eq(pc.claim_words), pc.read_busy.eq(regfile.read_busy), pc.write_busy.eq(regfile.write_busy),
            actbuf.claim_write.eq(pc.claim_act_write), actbuf.claim_read.eq(pc.claim_act_read), actbuf.claim_buf.eq(pc.claim_act),
            pc.act_write_busy.eq(actbuf.write_busy), pc.act_read_busy.eq(actbuf.read_busy),
            regfile.debug.eq(~self.running), regfile.debug_reg.eq(self.dbg_reg), regfile.debug_addr.eq(self.dbg_addr),
            self.dbg_data.eq(regfile.debug_data),
        ]  # fmt: skip

        # ---- stream ------------------------------------------------------------------------------------------------------
        m.d.comb += [
            stream.push_valid.eq(pc.push_valid), stream.push_addr.eq(pc.push_addr), stream.push_beats.eq(pc.push_beats),
            pc.push_ready.eq(stream.push_ready), stream.flush.eq(pc.flush), pc.stream_idle.eq(stream.idle & ~arbiter.busy),
            matmul.weight_valid.eq(stream.weight_valid), stream.weight_ready.eq(matmul.weight_ready),
            matmul.weight_data.eq(stream.weight_data), matmul.header_valid.eq(stream.header_valid),
            stream.header_ready.eq(matmul.header_ready), matmul.header.eq(stream.header),
        ]  # fmt: skip

        # ---- memory ------------------------------------------------------------------------------------------------------
        mem = self.mem
        m.d.comb += [
            arbiter.stream_valid.eq(stream.req_valid), stream.req_ready.eq(arbiter.stream_ready),
            arbiter.stream_addr.eq(stream.req_addr), arbiter.stream_len.eq(stream.req_len),
            arbiter.ldst_valid.eq(ldst.rd_valid), ldst.rd_ready.eq(arbiter.ldst_ready),
            arbiter.ldst_addr.eq(ldst.rd_addr), arbiter.ldst_len.eq(ldst.rd_len),
            mem.rd_valid.eq(arbiter.rd_valid), arbiter.rd_ready.eq(mem.rd_ready),
            mem.rd_addr.eq(arbiter.rd_addr), mem.rd_len.eq(arbiter.rd_len),
            arbiter.rdata_valid.eq(mem.rdata_valid), arbiter.rdata_error_in.eq(mem.rdata_error),
            stream.rdata_valid.eq(arbiter.stream_rdata_valid), stream.rdata.eq(mem.rdata),
            ldst.rdata_valid.eq(arbiter.ldst_rdata_valid), ldst.rdata.eq(mem.rdata),
            mem.wr_valid.eq(ldst.wr_valid), ldst.wr_ready.eq(mem.wr_ready), mem.wr_addr.eq(ldst.wr_addr), mem.wr_len.eq(ldst.wr_len),
            mem.wdata_valid.eq(ldst.wdata_valid), ldst.wdata_ready.eq(mem.wdata_ready), mem.wdata.eq(ldst.wdata),
            mem.wdata_strobe.eq(ldst.wdata_strobe), ldst.wresp_valid.eq(mem.wresp_valid),
            ldst.token.eq(pc.token), ldst.window_size.eq(self.window_size), ldst.stop.eq(self.fault != 0),
        ]  # fmt: skip

        # ---- program counter ---------------------------------------------------------------------------------------------
        for name in (
            "prog_en",
            "prog_addr",
            "prog_data",
            "program_length",
            "start",
            "window_size",
            "write_start",
            "eos",
            "limit",
        ):
            m.d.comb += getattr(pc, name).eq(getattr(self, name))
        for name in ("running", "halted", "waiting", "fault", "fault_pc", "issue_valid", "issue_pc"):
            m.d.comb += getattr(self, name).eq(getattr(pc, name))
        for k, name in enumerate(UNITS):
            connect(m, pc.cmd[k], units[name].cmd)
            m.d.comb += [
                pc.retired[k].eq(units[name].retire.valid),
                self.retire_valid[k].eq(units[name].retire.valid),
                self.retire_pc.word_select(k, 16).eq(units[name].retire.pc),
            ]
        m.d.comb += [
            self.retire_valid[4].eq(pc.issue_control), self.retire_pc.word_select(4, 16).eq(pc.issue_pc),
            prompts.w_en.eq(self.prompt_valid), prompts.w_data.eq(self.prompt_token), self.prompt_ready.eq(prompts.w_rdy),
            pc.prompt_valid.eq(prompts.r_rdy), pc.prompt_token.eq(prompts.r_data), prompts.r_en.eq(pc.prompt_ready),
            outputs.w_en.eq(pc.out_valid), outputs.w_data.eq(pc.out_token), pc.out_ready.eq(outputs.w_rdy),
            self.out_valid.eq(outputs.r_rdy), self.out_token.eq(outputs.r_data), outputs.r_en.eq(self.out_ready),
            pc.new_token_valid.eq(rowwise.token_valid), pc.new_token.eq(rowwise.token),
            rowwise.seed.eq(self.seed), rowwise.position.eq(pc.position),
            rowwise.temperature_m.eq(self.temperature_m), rowwise.temperature_e.eq(self.temperature_e),
        ]  # fmt: skip

        # ---- faults ------------------------------------------------------------------------------------------------------
        # A bad header counts when an instruction waits for that segment: its pc is then known, as in the functional simulator.
        product_waits = matmul.header_ready & ~stream.header_valid
        norm_waits = rmsnorm.gain.segment_ready & ~stream.gain.segment_valid
        norm_lacks = rmsnorm.gain.ready & ~stream.gain.valid
        ldst_pc, norm_pc, product_pc = (pc.unit_pc[UNITS.index(u)] for u in ("ldst", "rmsnorm", "tmatmul"))
        bad_product = matmul.fault | (stream.fault & product_waits)
        bad_norm = rmsnorm.fault | (stream.fault & norm_waits)
        with m.If(bad_norm | bad_product):
            m.d.comb += [pc.unit_fault.eq(Fault.SEGMENT), pc.unit_fault_pc.eq(Mux(bad_norm, norm_pc, product_pc))]
        with m.Elif(ldst.fault):
            m.d.comb += [pc.unit_fault.eq(Fault.ADDRESS), pc.unit_fault_pc.eq(ldst_pc)]
        with m.Elif(arbiter.rdata_error | (mem.wresp_valid & mem.wresp_error)):
            m.d.comb += [pc.unit_fault.eq(Fault.MEMORY), pc.unit_fault_pc.eq(pc.issue_pc)]
        m.d.comb += [
            pc.alive.eq(Cat(u.retire.valid for u in units.values()).any() | mem.rdata_valid | mem.wresp_valid | matmul.beat),
            # Somebody waits for a segment, or for the rest of one, and (says the watchdog) nothing moves any more.
            pc.starved.eq(product_waits | norm_waits | matmul.wait_weights | norm_lacks),
            pc.starved_pc.eq(Mux(norm_waits | norm_lacks, norm_pc, product_pc)),
        ]  # fmt: skip

        # ---- counters ----------------------------------------------------------------------------------------------------
        saturated = sum(u.saturated for u in units.values())
        m.submodules.counters = counters = Counters(saturated_bits=len(saturated))
        events = {
            "cycles": 1, "issued": pc.issue_valid, **{f"stall_{cause}": pc.stall[k] for k, cause in enumerate(STALLS)},
            **{f"busy_{name}": unit.active for name, unit in units.items()},
            "matmul_beats": matmul.beat, "matmul_wait_weights": matmul.wait_weights,
            "matmul_wait_activations": matmul.wait_act, "matmul_wait_output": matmul.wait_output,
            "stream_read_beats": arbiter.stream_rdata_valid, "ldst_read_beats": arbiter.ldst_rdata_valid,
            "write_beats": mem.wdata_valid & mem.wdata_ready, "saturated": 0,
        }  # fmt: skip
        for k, name in enumerate(COUNTERS):
            m.d.comb += counters.events[k].eq(events[name])
        m.d.comb += [
            counters.enable.eq(self.running), counters.clear.eq(self.start & ~self.running), counters.saturated.eq(saturated),
            counters.select.eq(self.counter_select), self.counter_value.eq(counters.value),
        ]  # fmt: skip
        return m
