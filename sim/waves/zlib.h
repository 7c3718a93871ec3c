// The part of zlib that Verilator's FST writer needs, so that waves need no library that may not be installed.
// compress2 writes stored blocks (RFC 1950, RFC 1951): valid for every reader, without compression.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;
constexpr uLong STORED_BLOCK = 65535;

inline uLong compressBound(uLong size) { return size + 5 * (size / STORED_BLOCK + 1) + 6; }

inline int compress2(Bytef* target, uLongf* target_size, const Bytef* source, uLong size, int) {
    if (*target_size < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78;
    *out++ = 0x01;
    uint32_t a = 1, b = 0;  // Adler-32
    uLong done = 0;
    do {
        const uLong part = std::min(size - done, STORED_BLOCK);
        *out++ = done + part == size;
        for (const uLong n : {part, ~part}) {
            *out++ = Bytef(n);
            *out++ = Bytef(n >> 8);
        }
        if (part) std::memcpy(out, source + done, part);
        for (uLong i = 0; i < part; ++i) b = (b + (a = (a + source[done + i]) % 65521)) % 65521;
        out += part;
        done += part;
    } while (done < size);
    for (const uint32_t half : {b, a}) {
        *out++ = Bytef(half >> 8);
        *out++ = Bytef(half);
    }
    *target_size = uLong(out - target);
    return Z_OK;
}
