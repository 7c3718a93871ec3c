// The ternary product on packed weights: five output rows in a byte, as trilobit/isa/trits.py packs them.
//
// A trit leaves a byte by a multiplication by three: the carry (0, 1, 2) is trit + 1, the low byte is the rest. In bytes that
// is two comparisons, so 32 columns are decoded at a time in a vector register and nothing is unpacked to memory. Written with
// the compiler's vector types, which it lowers to whatever the machine has.
#include <cstdint>
#include <cstring>

namespace {

constexpr int kRows = 5;
constexpr int kLanes = 32;
constexpr int kBlocks = 256;  // a 16-bit lane holds this many: 256 * 127 < 2^15

typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));
typedef std::int8_t Values __attribute__((vector_size(kLanes)));
typedef std::int16_t Half __attribute__((vector_size(kLanes)));  // 16 lanes

struct Sums {
    Half low[kRows], high[kRows];
};

// Sign-extends the even and the odd bytes of a vector.
inline Half even(Values v) { return ((Half)v << 8) >> 8; }
inline Half odd(Values v) { return (Half)v >> 8; }

inline __attribute__((always_inline)) void add_block(const std::uint8_t* bytes, const std::int8_t* q, Sums& sums) {
    Bytes rest;
    Values value;
    std::memcpy(&rest, bytes, kLanes);
    std::memcpy(&value, q, kLanes);
    for (int row = 0; row < kRows; ++row) {
        // 3 * rest >> 8 is 2 from 171 on, and 0 up to 85. At most one of the masks is set, so the difference is +-value.
        const Values signed_value = (value & (Values)(rest > 170)) - (value & (Values)(rest < 86));
        sums.low[row] += even(signed_value);
        sums.high[row] += odd(signed_value);
        rest = rest + rest + rest;
    }
}

inline void flush(Sums& sums, std::int32_t* total) {
    for (int row = 0; row < kRows; ++row) {
        std::int32_t sum = 0;
        for (int i = 0; i < kLanes / 2; ++i) sum += std::int32_t(sums.low[row][i]) + sums.high[row][i];
        total[row] += sum;
    }
    sums = Sums{};
}

}  // namespace

// bytes: groups of `stride` bytes, of which `columns` count; q: [columns] from -127 to 127; out: [groups * 5].
extern "C" void ternary_product(const std::uint8_t* bytes, const std::int8_t* q, std::int64_t groups, std::int64_t columns,
                                std::int64_t stride, std::int32_t* out) {
    const std::int64_t whole = columns / kLanes * kLanes;
    std::int8_t tail_q[kLanes] = {};  // zero where there is no column: whatever the byte says, nothing is added
    std::memcpy(tail_q, q + whole, columns - whole);
    for (std::int64_t group = 0; group < groups; ++group, bytes += stride, out += kRows) {
        Sums sums = {};
        std::memset(out, 0, kRows * sizeof *out);
        for (std::int64_t start = 0; start < whole; start += kBlocks * kLanes) {
            const std::int64_t end = start + kBlocks * kLanes < whole ? start + kBlocks * kLanes : whole;
            for (std::int64_t column = start; column < end; column += kLanes) add_block(bytes + column, q + column, sums);
            flush(sums, out);
        }
        if (whole < columns) {
            std::uint8_t tail[kLanes] = {};
            std::memcpy(tail, bytes + whole, columns - whole);
            add_block(tail, tail_q, sums);
            flush(sums, out);
        }
    }
}
