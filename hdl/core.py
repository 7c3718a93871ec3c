"""The accelerator core: four units around eight vector registers, a weight stream, and a program counter."""

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import ceil_log2

from trilobit.hdl.actbuf import ActivationBuffers
from trilobit.hdl.counters import COUNTERS, STALLS, Counters, SweptCounters
from trilobit.hdl.fifo import BlockFifo
from trilobit.hdl.interfaces import Fault, core_ports, of_slot
from trilobit.hdl.ldst import LoadStore
from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.memarb import ReadArbiter
from trilobit.hdl.pc import UNITS, ProgramCounter
from trilobit.hdl.pc_slots import TOKEN_BITS
from trilobit.hdl.regfile import RegisterFile
from trilobit.hdl.rmsnorm import CLOCKS as RMSNORM_CLOCKS
from trilobit.hdl.rmsnorm import RMSNorm
from trilobit.hdl.rowwise import CLOCKS as ROWWISE_CLOCKS
from trilobit.hdl.rowwise import RowWise
from trilobit.hdl.stream import StreamFetch
from trilobit.isa.core import CoreConfig

__all__ = ["Core"]

QUEUE_DEPTH = 64
GATED = ("ldst", *RMSNORM_CLOCKS, *ROWWISE_CLOCKS, "control", "registers", "counts", "readout", "settle")


class Core(wiring.Component):
    """The whole core, with a memory port and the host's signals. Contract and codes: docs/decisions/0001-machine.md.

    After a fault the core must be reset before it is started again; after ``halt`` it can be started at once.

    Parameters
    ----------
    config: core parameters.
    gated_clocks: for a simulator, which saves the evaluation of what can't change. The parts of ``GATED`` have clocks of their own
        (``clk_<part>`` inputs), to be ticked with ``clk`` in cycles in which ``en_<part>`` was high before the edge; ticking them always is
        the same machine. ``clk_settle`` is different: after each edge it is ticked, alone, as long as ``en_settle`` is high. It copies
        what passes from the parts that work in every cycle (product, stream, activation buffers) to the others, only when it has
        changed, so that the logic behind isn't evaluated again in every cycle; the copies are no registers of the machine.

    debug: whether registers can be read out through ``dbg_*``; boards don't.
    program: instruction words at power-on, where no host writes them.

    Members
    -------
    mem: the memory port.
    prog_*: instruction memory, written while the core doesn't run. start: a pulse. window_size, write_start, seed, temperature_*, eos,
    limit: settings, stable while the core runs. prompt_*: tokens from the host; out_*: tokens to the host. With a batch prompt_slot says
    whose a token is, and prompt_ready is that slot's; out_slot, whose an emitted token is.
    running, halted, waiting, fault, fault_pc: status. retire_*, issue_*: what left and what finished in this cycle.
    dbg_*: register read-out while the core doesn't run. counter_*: see trilobit.hdl.counters: with gated
    clocks the value answers at once, else READ_CLOCKS later.
    events: what the counters (all but the last) count in this cycle; stream_level: beats in the weight queue. For timelines.
    """

    def __init__(self, config: CoreConfig, *, gated_clocks: bool = False, debug: bool = True, program: Sequence[int] = ()):
        self.config = config
        self.program = program
        self.gated_clocks = gated_clocks
        self.debug = debug
        gates = {f"clk_{u}": In(1) for u in GATED} | {f"en_{u}": Out(1) for u in GATED} if gated_clocks else {}
        slots = {"prompt_slot": In(range(config.batch)), "out_slot": Out(range(config.batch))} if config.batch > 1 else {}
        super().__init__(gates | core_ports(config) | slots)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        crossings = []

        cycle, settled_cycle = Signal(32), Signal(32, reset_less=True)  # this one, and the latest that was settled

        def settled(value, when=None, new=None):
            """A value of the parts that work in every cycle, for the others; it counts only ``when``.

            A wide one isn't compared but copied once in each cycle of ``new``, in which it may have changed.
            """
            if not self.gated_clocks:
                return value
            value = Value.cast(value)
            copy = Signal(value.shape(), name=f"settled{len(crossings)}", reset_less=True)
            m.d.settle += copy.eq(value)
            if new is not None:
                crossings.append(new & (cycle != settled_cycle))
            else:
                crossings.append((value ^ copy).any() if when is None else when & (value ^ copy).any())
            return copy

        if self.gated_clocks:
            m.d.sync += cycle.eq(cycle + 1)
            m.d.settle += settled_cycle.eq(cycle)

        def clocked(domain, part):
            """A part in one of the clock domains of its own."""
            return DomainRenamer(domain)(part) if self.gated_clocks else part

        if self.gated_clocks:
            for name in GATED:
                m.domains += (clock := ClockDomain(name, reset_less=name == "settle"))
                m.d.comb += clock.clk.eq(getattr(self, f"clk_{name}"))
                if name != "settle":
                    m.d.comb += clock.rst.eq(ResetSignal("sync"))
        units = {
            "ldst": LoadStore(config), "rmsnorm": RMSNorm(config, gated_clocks=self.gated_clocks), "tmatmul": TernaryMatmul(config),
            "rowwise": RowWise(config, gated_clocks=self.gated_clocks),
        }  # fmt: skip
        for name, unit in units.items():
            m.submodules[name] = clocked(name, unit) if name in ("ldst", "rmsnorm") else unit
        ldst, rmsnorm, matmul, rowwise = units.values()
        regfile = RegisterFile(config, reads=6, writes=4, debug=self.debug)
        pc = ProgramCounter(config, program=self.program)
        prompts = [BlockFifo(TOKEN_BITS, QUEUE_DEPTH) for _ in range(config.batch)]
        outputs = BlockFifo(TOKEN_BITS + ceil_log2(config.batch), QUEUE_DEPTH)
        queues = Cat(Cat(q.i_valid, q.o_valid & q.o_ready, ~q.o_valid & ~q.empty) for q in (*prompts, outputs)).any()
        waiting = {of_slot("prompts", slot): queue for slot, queue in enumerate(prompts)}
        m.submodules.regfile = clocked("registers", regfile)
        for name, part in {"pc": pc, **waiting, "outputs": outputs}.items():
            m.submodules[name] = clocked("control", part)
        m.submodules.actbuf = actbuf = ActivationBuffers(config)
        m.submodules.stream = stream = StreamFetch(config)
        m.submodules.arbiter = arbiter = ReadArbiter(beat_bytes=config.beat_bytes)

        # ---- registers and buffers ---------------------------------------------------------------------------------------
        for port, user in enumerate((ldst.read, rmsnorm.a, rmsnorm.b, rowwise.a, rowwise.b, rowwise.c)):
            connect(m, user, regfile.read[port])
        for port, user in ((0, ldst.write), (1, rmsnorm.write), (3, rowwise.write)):
            connect(m, user, regfile.write[port])
        products = regfile.write[2]
        m.d.comb += [products.en.eq(settled(matmul.write.en)), matmul.write.ok.eq(products.ok)]
        m.d.comb += [getattr(products, k).eq(settled(getattr(matmul.write, k))) for k in ("chk_reg", "chk_addr")]
        for k in ("reg", "addr", "mask", "data"):
            m.d.comb += getattr(products, k).eq(settled(getattr(matmul.write, k), new=matmul.write.en))
        for k in ("buf", "start", "scale", "length", "en", "addr", "data"):
            m.d.comb += getattr(actbuf.write, k).eq(getattr(rmsnorm.act, k))
        connect(m, matmul.act, actbuf.read)
        gain, gain_stays = stream.gain, Signal()
        if self.gated_clocks:
            m.d.sync += gain_stays.eq(gain.valid & ~gain.ready)
        m.d.comb += [
            rmsnorm.act.ok.eq(settled(actbuf.write.ok)),
            rmsnorm.gain.segment_valid.eq(settled(gain.segment_valid)), gain.segment_ready.eq(rmsnorm.gain.segment_ready),
            rmsnorm.gain.length.eq(settled(gain.length, gain.segment_valid)),
            rmsnorm.gain.valid.eq(settled(gain.valid)), gain.ready.eq(rmsnorm.gain.ready),
            rmsnorm.gain.data.eq(settled(gain.data, new=gain.valid & ~gain_stays)),
        ]  # fmt: skip
        m.d.comb += [
            regfile.claim.eq(pc.claim), regfile.claim_reads.eq(pc.claim_reads), regfile.claim_writes.eq(pc.claim_writes),
            regfile.claim_last.eq(pc.claim_last), regfile.claim_writer.eq(pc.claim_writer),
            pc.read_busy.eq(regfile.read_busy), pc.write_busy.eq(regfile.write_busy),
            actbuf.claim_write.eq(pc.claim_act_write), actbuf.claim_read.eq(pc.claim_act_read), actbuf.claim_buf.eq(pc.claim_act),
            pc.act_write_busy.eq(settled(actbuf.write_busy)), pc.act_read_busy.eq(settled(actbuf.read_busy)),
            regfile.debug.eq(~self.running), regfile.debug_reg.eq(self.dbg_reg), regfile.debug_addr.eq(self.dbg_addr),
            self.dbg_data.eq(regfile.debug_data),
        ]  # fmt: skip

        # ---- stream ------------------------------------------------------------------------------------------------------
        m.d.comb += [
            stream.push_valid.eq(pc.push_valid), stream.push_addr.eq(pc.push_addr), stream.push_beats.eq(pc.push_beats),
            pc.push_ready.eq(settled(stream.push_ready)), stream.flush.eq(pc.flush),
            pc.stream_idle.eq(settled(stream.idle & ~arbiter.busy)),
            matmul.weight_valid.eq(stream.weight_valid), stream.weight_ready.eq(matmul.weight_ready),
            matmul.weight_data.eq(stream.weight_data), matmul.header_valid.eq(stream.header_valid),
            stream.header_ready.eq(matmul.header_ready), matmul.header.eq(stream.header),
        ]  # fmt: skip

        # ---- memory ------------------------------------------------------------------------------------------------------
        mem = self.mem
        m.d.comb += [
            arbiter.stream_valid.eq(stream.req_valid), stream.req_ready.eq(arbiter.stream_ready),
            arbiter.stream_addr.eq(stream.req_addr), arbiter.stream_len.eq(stream.req_len),
            arbiter.ldst_valid.eq(ldst.rd_valid), ldst.rd_ready.eq(settled(arbiter.ldst_ready)),
            arbiter.ldst_addr.eq(ldst.rd_addr), arbiter.ldst_len.eq(ldst.rd_len),
            mem.rd_valid.eq(arbiter.rd_valid), arbiter.rd_ready.eq(mem.rd_ready),
            mem.rd_addr.eq(arbiter.rd_addr), mem.rd_len.eq(arbiter.rd_len),
            arbiter.rdata_valid.eq(mem.rdata_valid), arbiter.rdata_error_in.eq(mem.rdata_error),
            stream.rdata_valid.eq(arbiter.stream_rdata_valid), stream.rdata.eq(mem.rdata),
            ldst.rdata_valid.eq(settled(arbiter.ldst_rdata_valid)),
            ldst.rdata.eq(settled(mem.rdata, new=arbiter.ldst_rdata_valid)),
            mem.wr_valid.eq(ldst.wr_valid), ldst.wr_ready.eq(settled(mem.wr_ready)),
            mem.wr_addr.eq(ldst.wr_addr), mem.wr_len.eq(ldst.wr_len),
            mem.wdata_valid.eq(ldst.wdata_valid), ldst.wdata_ready.eq(settled(mem.wdata_ready)), mem.wdata.eq(ldst.wdata),
            mem.wdata_strobe.eq(ldst.wdata_strobe), ldst.wresp_valid.eq(settled(mem.wresp_valid)),
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
            cmd, retire = units[name].cmd, units[name].retire
            always = name == "tmatmul"
            m.d.comb += [
                cmd.valid.eq(pc.cmd[k].valid), cmd.word.eq(pc.cmd[k].word), cmd.pc.eq(pc.cmd[k].pc),
                pc.cmd[k].ready.eq(settled(cmd.ready) if always else cmd.ready),
                pc.retired[k].eq(settled(retire.valid) if always else retire.valid),
                self.retire_valid[k].eq(pc.retired[k]),
                self.retire_pc.word_select(k, 16).eq(settled(retire.pc, retire.valid) if always else retire.pc),
            ]  # fmt: skip
        m.d.comb += [
            self.retire_valid[4].eq(pc.issue_control), self.retire_pc.word_select(4, 16).eq(pc.issue_pc),
            *self._host_queues(pc, prompts, outputs),
            pc.new_token_valid.eq(rowwise.token_valid), pc.new_token.eq(rowwise.token),
            rowwise.seed.eq(self.seed), rowwise.position.eq(pc.position),
            rowwise.temperature_m.eq(self.temperature_m), rowwise.temperature_e.eq(self.temperature_e),
        ]  # fmt: skip

        # ---- faults ------------------------------------------------------------------------------------------------------
        # A bad header counts when an instruction waits for that segment: its pc is then known, as in the functional simulator.
        product_waits = settled(matmul.header_ready & ~stream.header_valid)
        bad_header = settled(stream.fault)
        norm_waits = rmsnorm.gain.segment_ready & ~rmsnorm.gain.segment_valid
        norm_lacks = rmsnorm.gain.ready & ~rmsnorm.gain.valid
        product_lacks = settled(matmul.wait_weights)
        ldst_pc, norm_pc, product_pc = (pc.unit_pc[UNITS.index(u)] for u in ("ldst", "rmsnorm", "tmatmul"))
        bad_product = settled(matmul.fault) | (bad_header & product_waits)
        bad_norm = rmsnorm.fault | (bad_header & norm_waits)
        bad_memory = settled(arbiter.rdata_error | (mem.wresp_valid & mem.wresp_error))
        with m.If(bad_norm | bad_product):
            m.d.comb += [pc.unit_fault.eq(Fault.SEGMENT), pc.unit_fault_pc.eq(Mux(bad_norm, norm_pc, product_pc))]
        with m.Elif(ldst.fault):
            m.d.comb += [pc.unit_fault.eq(Fault.ADDRESS), pc.unit_fault_pc.eq(ldst_pc)]
        with m.Elif(bad_memory):
            m.d.comb += [pc.unit_fault.eq(Fault.MEMORY), pc.unit_fault_pc.eq(pc.issue_pc)]
        m.d.comb += [
            pc.alive.eq(pc.retired.any() | settled(mem.rdata_valid | mem.wresp_valid | matmul.beat)),
            # Somebody waits for a segment, or for the rest of one, and (says the watchdog) nothing moves any more.
            pc.starved.eq(product_waits | norm_waits | product_lacks | norm_lacks),
            pc.starved_pc.eq(Mux(norm_waits | norm_lacks, norm_pc, product_pc)),
        ]  # fmt: skip

        # ---- counters ----------------------------------------------------------------------------------------------------
        saturated = settled(matmul.saturated) + ldst.saturated + rmsnorm.saturated + rowwise.saturated
        counters = (Counters if self.gated_clocks else SweptCounters)(saturated_bits=len(saturated))
        events = {
            "cycles": 1, "issued": pc.issue_valid, **{f"stall_{cause}": pc.stall[k] for k, cause in enumerate(STALLS)},
            **{f"busy_{name}": unit.active for name, unit in units.items()}, "busy_tmatmul": settled(matmul.active),
            "matmul_beats": settled(matmul.beat), "matmul_wait_weights": product_lacks,
            "matmul_wait_activations": settled(matmul.wait_act), "matmul_wait_output": settled(matmul.wait_output),
            "stream_read_beats": settled(arbiter.stream_rdata_valid), "ldst_read_beats": settled(arbiter.ldst_rdata_valid),
            "write_beats": settled(mem.wdata_valid & mem.wdata_ready), "saturated": 0,
        }  # fmt: skip
        for k, name in enumerate(COUNTERS):
            m.d.comb += counters.events[k].eq(events[name])
        m.d.comb += [
            counters.enable.eq(self.running), counters.clear.eq(self.start & ~self.running), counters.saturated.eq(saturated),
            counters.select.eq(self.counter_select),
            self.events.eq(counters.events), self.stream_level.eq(stream.level),
        ]  # fmt: skip
        if self.gated_clocks:
            m.d.readout += self.counter_value.eq(counters.value)
        else:
            m.d.comb += self.counter_value.eq(counters.value)
        if self.gated_clocks:
            edges = {
                **dict(zip(RMSNORM_CLOCKS, rmsnorm.edges, strict=True)), **dict(zip(ROWWISE_CLOCKS, rowwise.edges, strict=True)),
                "ldst": ldst.active | ldst.cmd.valid, "control": pc.changes | queues, "registers": regfile.changes,
                "counts": counters.changes, "readout": 0,
                "settle": Cat(crossings).any(),
            }  # fmt: skip
            m.d.comb += [getattr(self, f"en_{name}").eq(edge) for name, edge in edges.items()]
        m.submodules.counters = counters
        return m

    def _host_queues(self, pc, prompts, outputs) -> list:
        """The queues between the host and the program counter."""
        if self.config.batch == 1:
            queue = prompts[0]
            return [
                queue.i_valid.eq(self.prompt_valid), queue.i_data.eq(self.prompt_token), self.prompt_ready.eq(queue.i_ready),
                pc.prompt_valid.eq(queue.o_valid), pc.prompt_token.eq(queue.o_data), queue.o_ready.eq(pc.prompt_ready),
                outputs.i_valid.eq(pc.out_valid), outputs.i_data.eq(pc.out_token), pc.out_ready.eq(outputs.i_ready),
                self.out_valid.eq(outputs.o_valid), self.out_token.eq(outputs.o_data), outputs.o_ready.eq(self.out_ready),
            ]  # fmt: skip
        statements = [
            self.prompt_ready.eq(Cat(queue.i_ready for queue in prompts).bit_select(self.prompt_slot, 1)),
            outputs.i_valid.eq(pc.out_valid), outputs.i_data.eq(Cat(pc.out_token, pc.out_slot)), pc.out_ready.eq(outputs.i_ready),
            self.out_valid.eq(outputs.o_valid), Cat(self.out_token, self.out_slot).eq(outputs.o_data), outputs.o_ready.eq(self.out_ready),
        ]  # fmt: skip
        for slot, queue in enumerate(prompts):
            statements += [
                queue.i_valid.eq(self.prompt_valid & (self.prompt_slot == slot)), queue.i_data.eq(self.prompt_token),
                pc.prompt_valid[slot].eq(queue.o_valid), pc.prompt_token.word_select(slot, TOKEN_BITS).eq(queue.o_data),
                queue.o_ready.eq(pc.prompt_ready[slot]),
            ]  # fmt: skip
        return statements
