// The two functions of LZ4 that Verilator's FST writer needs, so that waves need no library that may not be installed.
// A greedy compressor of the LZ4 block format (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    constexpr int MIN_MATCH = 4, LAST_LITERALS = 5, MATCH_LIMIT = 12, MAX_OFFSET = 65535, HASH_BITS = 13;
    if (capacity < LZ4_compressBound(size)) return 0;
    char* out = target;
    const auto length = [&](int n) {  // the rest of a length that does not fit its nibble
        for (; n >= 255; n -= 255) *out++ = char(255);
        *out++ = char(n);
    };
    const auto sequence = [&](int literals, const char* from, int match, int offset) {
        const int coded = match ? match - MIN_MATCH : 0;
        *out++ = char((literals < 15 ? literals : 15) << 4 | (coded < 15 ? coded : 15));
        if (literals >= 15) length(literals - 15);
        std::memcpy(out, from, literals);
        out += literals;
        if (!match) return;
        *out++ = char(offset);
        *out++ = char(offset >> 8);
        if (coded >= 15) length(coded - 15);
    };
    std::vector<int> last(1 << HASH_BITS, -1);
    int anchor = 0;
    for (int i = 0; i + MATCH_LIMIT <= size;) {
        uint32_t word;
        std::memcpy(&word, source + i, 4);
        int& slot = last[word * 2654435761u >> (32 - HASH_BITS)];
        const int candidate = slot;
        slot = i;
        if (candidate < 0 || i - candidate > MAX_OFFSET || std::memcmp(source + candidate, source + i, MIN_MATCH)) {
            ++i;
            continue;
        }
        int match = MIN_MATCH;
        while (i + match < size - LAST_LITERALS && source[candidate + match] == source[i + match]) ++match;
        sequence(i - anchor, source + anchor, match, i - candidate);
        anchor = i += match;
    }
    sequence(size - anchor, source + anchor, 0, 0);
    return int(out - target);
}
