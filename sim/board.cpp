// The compiled part of a board's simulation: clocks the verilated system, is its SDRAM chip and the other end of its serial line.
// The top is trilobit.hdl.system.HostedCore: all logic on one clock, the SDRAM's pins for both halves of it (hdl/sdram.py, SdramPins).
// The chip here keeps data and obeys; its rules are checked by the device model of the tests (tests/hdl/sdram_device.py).
// Parameters are macros from trilobit/sim/board.py: COLUMN_BITS, CAS_LATENCY, IO_LATENCY.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vcore.h"
#include "verilated.h"

// Verilator writes a double underscore in a port's name as ___05F.
#define PIN(name) sdram___05F##name

static constexpr unsigned BANKS = 4, BURST = 2;
static constexpr unsigned DELAY = CAS_LATENCY + IO_LATENCY;  // of the chip's clocks, from a read to its first word

struct Chip {
    std::vector<uint16_t> words;
    uint32_t rows[BANKS] = {};
    uint16_t flying[2 * 64] = {};  // words on their way, by the half clock in which they are sampled
    bool known[2 * 64] = {};
    uint64_t half = 0;  // number of the next one
    uint64_t write_to = 0;
    unsigned write_left = 0;
    static_assert(DELAY + BURST < 2 * 64);

    void edge(bool cs, unsigned command, unsigned ba, unsigned a, unsigned mask, uint16_t data) {
        if (write_left) {
            --write_left;
            store(write_to ^ 1, mask, data);
        }
        if (cs) {
            const uint64_t at = (uint64_t(rows[ba] * BANKS + ba) << COLUMN_BITS | (a & ((1u << COLUMN_BITS) - 1))) % words.size();
            if (command == 0b100) rows[ba] = a;  // activate
            if (command == 0b010)                // read
                for (unsigned k = 0; k < BURST; ++k) {
                    const unsigned slot = (half + DELAY + k) % 128;
                    flying[slot] = words[at ^ k];
                    known[slot] = true;
                }
            if (command == 0b011) {  // write
                store(at, mask, data);
                write_to = at;
                write_left = BURST - 1;
            }
        }
        ++half;
    }
    void store(uint64_t at, unsigned mask, uint16_t data) {
        const uint16_t keep = (mask & 1 ? 0x00ff : 0) | (mask & 2 ? 0xff00 : 0);
        words[at] = (words[at] & keep) | (data & ~keep);
    }
    uint16_t sample(uint64_t at) {
        const unsigned slot = at % 128;
        const uint16_t word = known[slot] ? flying[slot] : 0xdead;
        known[slot] = false;
        return word;
    }
};

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vcore> top;
    Chip chip;
    uint64_t now = 0;

    // The serial line: bytes for the board, then bytes from it.
    uint32_t divisor = 0;
    std::deque<uint8_t> to_board;
    std::vector<uint8_t> from_board;
    uint32_t send_bits = 0, send_left = 0, send_wait = 0;
    uint32_t receive_bits = 0, receive_left = 0, receive_wait = 0;
    uint64_t break_until = 0;

    void line() {
        if (now < break_until) {
            top->rx = 0;
        } else if (send_left == 0) {
            top->rx = 1;
            if (!to_board.empty()) {
                send_bits = 0x200u | uint32_t(to_board.front()) << 1;  // start bit, data, stop bit
                to_board.pop_front();
                send_left = 10;
                send_wait = 0;
            }
        }
        if (send_left && now >= break_until) {
            if (send_wait == 0) {
                top->rx = send_bits & 1;
                send_bits >>= 1;
                send_wait = divisor;
            }
            if (--send_wait == 0) --send_left;
        }
        if (receive_left == 0) {
            if (!top->tx) {
                receive_left = 9;
                receive_bits = 0;
                receive_wait = divisor + divisor / 2;
            }
        } else if (--receive_wait == 0) {
            receive_wait = divisor;
            if (--receive_left) {
                receive_bits = receive_bits >> 1 | uint32_t(top->tx) << 7;
            } else if (top->tx) {
                from_board.push_back(receive_bits);
            }
        }
    }

    void tick() {
        Vcore& t = *top;
        for (unsigned k = 0; k < 2; ++k) {
            const bool cs = t.PIN(cs) >> k & 1;
            const unsigned command = (t.PIN(ras) >> k & 1) << 2 | (t.PIN(cas) >> k & 1) << 1 | (t.PIN(we) >> k & 1);
            chip.edge(cs, command, k ? t.PIN(ba_1) : t.PIN(ba_0), k ? t.PIN(a_1) : t.PIN(a_0), t.PIN(dqm) >> 2 * k & 3,
                      uint16_t(t.PIN(dq_o) >> 16 * k));
        }
        const uint64_t first = chip.half - 2;
        t.PIN(dq_i) = uint32_t(chip.sample(first)) | uint32_t(chip.sample(first + 1)) << 16;
        line();
        t.clk ^= 1;  // both edges count, see trilobit/sim/rtl_build.py
        t.eval();
        ++now;
    }
};

extern "C" {

Board* board_new(uint64_t bytes, uint32_t divisor) {
    auto board = std::make_unique<Board>();
    board->context.randReset(0);
    board->top = std::make_unique<Vcore>(&board->context, "board");
    board->chip.words.assign(bytes / 2, 0xbeef);
    board->divisor = divisor;
    board->top->rx = 1;
    board->top->eval();
    board->top->rst = 1;
    for (int i = 0; i < 3; ++i) board->tick();
    board->top->rst = 0;
    return board.release();
}

void board_delete(Board* board) {
    board->top->final();
    delete board;
}

uint16_t* board_memory(Board* board) { return board->chip.words.data(); }
uint64_t board_now(Board* board) { return board->now; }
void board_divisor(Board* board, uint32_t divisor) { board->divisor = divisor; }
void board_break(Board* board, uint32_t clocks) { board->break_until = board->now + clocks; }
void board_send(Board* board, const uint8_t* data, uint64_t count) { board->to_board.insert(board->to_board.end(), data, data + count); }

// Run until all was sent; or, if `until_byte`, until a byte has come from the board; at most `clocks`.
void board_run(Board* board, uint64_t clocks, int32_t until_byte) {
    for (uint64_t n = 0; n < clocks; ++n) {
        if (until_byte ? !board->from_board.empty()
                       : board->to_board.empty() && board->send_left == 0 && board->now >= board->break_until)
            return;
        board->tick();
    }
}

// Take what came: at most `limit` bytes.
uint64_t board_receive(Board* board, uint8_t* data, uint64_t limit) {
    const uint64_t count = std::min<uint64_t>(limit, board->from_board.size());
    std::memcpy(data, board->from_board.data(), count);
    board->from_board.erase(board->from_board.begin(), board->from_board.begin() + count);
    return count;
}
}
