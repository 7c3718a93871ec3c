// The lean core's scalars in its cycle model: operands, passes and moves with their values, and what is read before it is there.
#pragma once
#include <algorithm>

#include "lean_core.h"
#include "lean_pass.h"

using namespace micro;

inline uint32_t LeanModel::place(uint32_t index, bool stride, const Micro& m, uint32_t element) const {
    if (!stride) return index;
    uint32_t offset = element;
    switch (m.offset) {
        case Offset::SC: offset = uint32_t(word.get(Field::sc)); break;
        case Offset::CNT: offset = uint32_t(word.get(Field::cnt)); break;
        case Offset::ACT: offset = uint32_t(word.get(Field::act)); break;
        case Offset::QUEUE_WRITE: offset = queue_write; break;
        case Offset::QUEUE_READ: offset = queue_read; break;
        default: break;
    }
    return (index & ~15u) | ((index + offset) & 15);
}

// Elements of vectors are 0 here.
inline int64_t LeanModel::operand(int32_t encoded, const Micro& m, uint32_t element) const {
    const uint32_t index = encoded & 511, source = encoded >> 10;
    if (source == Source::SCALAR) return scalars[place(index, encoded >> 9 & 1, m, element)];
    return source == Source::PAGE && index == PAGE_IOTA ? element : 0;
}

inline int64_t LeanModel::slice(int32_t what) const {
    if (what <= Slice::WORD7) return (word.half[(2 + what) / 4] >> 16 * ((2 + what) % 4)) & 0xFFFF;
    const uint64_t prompt = prompt_tokens.empty() ? 0 : prompt_tokens.front();
    const auto half = [what](int32_t low, uint64_t value) { return int64_t(value >> 16 * (what - low) & 0xFFFF); };
    switch (what) {
        case Slice::ADDRESS0: case Slice::ADDRESS1: return half(Slice::ADDRESS0, uint64_t(word.get(Field::addr)) >> shift);
        case Slice::WINDOW0: case Slice::WINDOW1: return half(Slice::WINDOW0, machine.window_size >> shift);
        case Slice::WRITE0: case Slice::WRITE1: return half(Slice::WRITE0, machine.write_start >> shift);
        case Slice::EOS0: case Slice::EOS1: return half(Slice::EOS0, machine.eos);
        case Slice::LIMIT0: case Slice::LIMIT1: return half(Slice::LIMIT0, machine.limit);
        case Slice::SEED0: case Slice::SEED1: return half(Slice::SEED0, settings.seed);
        case Slice::TEMPERATURE_M: return settings.temperature_m;
        case Slice::TEMPERATURE_E: return settings.temperature_e & 0xFFFF;
        case Slice::PROMPT0: case Slice::PROMPT1: return half(Slice::PROMPT0, prompt);
        default: return 0;
    }
}

// An element of the stream: words of headers are known, payload is not.
inline int64_t LeanModel::element_word(const Micro& m, uint32_t element) const {
    if (m.slice != Slice::STREAM || element >= 8 || beats.empty()) return 0;
    const auto before = [](const LeanHeader& header, uint64_t address) { return header.addr < address; };
    const auto found = std::lower_bound(headers.begin(), headers.end(), beats.front(), before);
    return found != headers.end() && found->addr == beats.front() ? found->words[element] : 0;
}

inline void LeanModel::write(const Micro& m, uint32_t element, int64_t value) {
    if (m.dest == Dest::SCALAR) scalars[place(m.dest_index, m.dest_stride, m, element)] = value;
    if (m.dest == Dest::GAIN) gains.push_back(int32_t(lean::sign_extend(uint64_t(value), 16)));
}

inline void LeanModel::target(int32_t which, uint64_t last_element, int64_t value) {
    if (which == Target::LIMIT) limit = uint32_t(value);
    else if (which == Target::COLUMNS) columns = uint32_t(value & 0xFFFF);
    else events.push_back({last_element + LATENCY - 1, which, value});
}

inline uint32_t LeanModel::length_of(const Micro& m) const {
    if (m.length == Length::LEN) return uint32_t(word.get(Field::len));
    if (m.length == Length::LIMIT) return limit + 1;
    return 1u << (m.length - Length::ONE);
}

inline void LeanModel::check(const Micro& m, bool good) {
    if (good) return;
    ++hazards;
    hazard_at = uint32_t(&m - code.data());
}

// Results are in memory LATENCY cycles after their issue; y is read in the cycle of the issue, the others one later.
inline void LeanModel::check_reads(const Micro& m, uint64_t issue, uint32_t element) {
    const int32_t operands[] = {m.y, m.x, m.z, m.n};
    for (const int32_t& operand : operands) {
        if (operand >> 10 != Source::SCALAR) continue;
        const uint64_t at = written[place(operand & 511, operand >> 9 & 1, m, element)];
        check(m, at == 0 || at >= now + 1 || issue + (&operand != operands) >= at + LATENCY);  // those of this pass are read before
    }
}

inline void LeanModel::stamp(const Micro& m, uint64_t issue, uint32_t element) {
    if (m.dest == Dest::SCALAR) written[place(m.dest_index, m.dest_stride, m, element)] = issue;
}

// The values of a pass; of one over a vector only what it takes from the gain queue.
inline void LeanModel::pass(const Micro& m) {
    const bool takes_gains = (m.y >> 10) == Source::TABLE, scalar = m.length != Length::LEN && m.length != Length::LIMIT;
    if (m.length == Length::LIMIT) check(m, drained());
    for (uint32_t i = 0; i < std::min(length, 16u); ++i) check_reads(m, now + 1 + i, i);
    for (uint32_t i = length - std::min(length, 16u); i < length; ++i) stamp(m, now + 1 + i, i);
    if (!scalar) {
        if (takes_gains) gains.erase(gains.begin(), gains.begin() + std::min<size_t>(length, gains.size()));
        return;
    }
    int f = m.fconst;
    switch (m.fsel) {
        case Shift::SHA: f = int(word.get(Field::sha)); break;
        case Shift::SHB: f = int(word.get(Field::shb)); break;
        case Shift::SHO: f = int(word.get(Field::sho)); break;
        case Shift::K_E: f = int(word.get(Field::k_e)); break;
        case Shift::EPS_E: f = int(word.get(Field::eps_e)); break;
        default: break;
    }
    int64_t value = 0;
    for (uint32_t i = 0; i < length; ++i) {
        lean::Element e{operand(m.x, m, i), operand(m.y, m, i), operand(m.z, m, i), 0, f, conditions[i], hashes[i]};
        if (takes_gains) {
            e.y = gains.empty() ? 0 : gains.front();
            if (!gains.empty()) gains.pop_front();
        }
        e.n = int(lean::sign_extend(uint64_t(operand(m.n, m, i) >> 17), 8));
        value = lean::run_pass(m, e, word.get(Field::wide), zero);
        if (m.max == Max::READ || m.max == Max::INDEX) value = 0;
        hashes[i] = e.h;
        if (m.setc) conditions[i] = value < 0;
        negative = value < 0;
        write(m, i, value);
    }
    if (m.dest == Dest::HARDWARE) target(m.dest_index, now + length, value);
}
