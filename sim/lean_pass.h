// The arithmetic of a lean core's pass, an element: trilobit.hdl.lean.reference.run_pass, of which this is a copy for scalars.
#pragma once
#include "lean_micro.h"

namespace lean {

constexpr int BITS = 36;
constexpr int64_t LOWEST = -(int64_t(1) << (BITS - 1));

inline int64_t sign_extend(uint64_t value, int bits) { return int64_t(value << (64 - bits)) >> (64 - bits); }

inline int64_t top_of(int32_t sat, bool wide) {
    namespace Sat = micro::Sat;
    const auto top = [](int bits) { return (int64_t(1) << (bits - 1)) - 1; };
    switch (sat) {
        case Sat::S8: return top(8);
        case Sat::S16: return top(16);
        case Sat::S18: return top(18);
        case Sat::S19: return top(19);
        case Sat::S24: return top(24);
        case Sat::S25: return top(25);
        case Sat::S32: return top(32);
        default: return top(wide ? 32 : 16);  // WIDE
    }
}

struct Element {
    int64_t x, y, z;
    int n, f;   // N's exponent; F before it is inverted
    bool c;     // the condition bit
    int64_t h;  // the hash half; run_pass leaves the new one
};

// The result; `zero`: whether it was zero before its limit.
inline int64_t run_pass(const micro::Micro& m, Element& e, bool wide, bool& zero) {
    const int64_t x = sign_extend(uint64_t(e.x), 34);
    int64_t y = sign_extend(uint64_t(e.y), 34);
    switch (m.ymode) {
        case micro::YMode::REST: y &= 0x1FF; break;
        case micro::YMode::ABS: y = e.c ? y | -2 : y; break;
        case micro::YMode::SELECT: y = e.c ? y : int64_t(1) << 18; break;
        case micro::YMode::AND: y = e.c ? y : 0; break;
        default: break;
    }
    int shift = (m.fneg ? ~e.f : e.f) - (!m.ngate || e.c ? e.n : 0);
    const bool below = shift < 0;
    shift = below ? 0 : shift > 63 ? 63 : shift;
    const __int128 p = __int128(x) * y;
    zero = false;
    if (m.clz) {
        const uint32_t low = uint32_t(x);
        return int64_t(low ? __builtin_clz(low) : 127) << 17;
    }
    if (m.hash) {
        const int64_t result = (int64_t(p >> 18) & 0x3FFFF) ^ (e.z & 0x3FFFF) ^ e.h;
        e.h = int64_t(p) & 0x3FFFF;
        return result;
    }
    const __int128 whole = p >> shift, total = whole + (m.round && shift ? (p >> (shift - 1)) & 1 : 0) + e.z;
    const int64_t result = sign_extend(uint64_t(total), BITS);
    zero = result == 0;
    if (m.sat == micro::Sat::NONE) return result;
    const bool over = whole < LOWEST || whole >= -LOWEST, negative = over ? p < 0 : total < 0;
    if (m.sat == micro::Sat::RELU) return negative ? 0 : result;
    const int64_t top = top_of(m.sat, wide);
    if (over || (below && !zero) || total > top || total < -top - 1) return negative ? -top - 1 : top;
    return result;
}

}  // namespace lean
