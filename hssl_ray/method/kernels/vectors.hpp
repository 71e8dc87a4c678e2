// Vectors of numbers as the compiler's own vector types, so that one source serves every processor.
#pragma once

#include <omp.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

// Bytes of a vector register. Wider vectors are right too, but nine sums of them are more than there are registers.
#if defined(__AVX512F__)
constexpr int REGISTER = 64;
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

// As aligned as registers are. With AVX2, g++ keeps vectors of a smaller alignment in memory, each sum of them too.
// Numbers in arrays may lie anywhere: they are copied in and out.
template <class T, int LANES>
using Vector __attribute__((vector_size(LANES * sizeof(T)))) = T;

template <class To, class From>
To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// A number type as it lies in memory: what sums are kept in, and how LANES of them are loaded and stored.
template <class T>
struct Format {
    typedef T Number;
    typedef T Sum;

    template <int LANES>
    static Vector<T, LANES> load(const T* from) {
        Vector<T, LANES> value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }

    template <int LANES>
    static void store(T* to, Vector<T, LANES> value) {
        std::memcpy(to, &value, sizeof value);
    }
};

struct Bfloat16 {
    typedef uint16_t Number;
    typedef float Sum;

    template <int LANES>
    static Vector<float, LANES> load(const uint16_t* from) {
        return same_bits<Vector<float, LANES>>(widened<LANES>(Format<uint16_t>::load<LANES>(from)) << 16);
    }

    // In one instruction where there is one; g++ 12 converts the halves of a vector one by one.
    template <int LANES>
    static Vector<uint32_t, LANES> widened(Vector<uint16_t, LANES> numbers) {
#if defined(__AVX512F__)
        if constexpr (LANES == 16)
            return same_bits<Vector<uint32_t, LANES>>(_mm512_cvtepu16_epi32(same_bits<__m256i>(numbers)));
#endif
#if defined(__AVX2__)
        if constexpr (LANES == 8)
            return same_bits<Vector<uint32_t, LANES>>(_mm256_cvtepu16_epi32(same_bits<__m128i>(numbers)));
#endif
        return __builtin_convertvector(numbers, Vector<uint32_t, LANES>);
    }

    // Rounds to nearest, ties to even; what is not a number stays so.
    template <int LANES>
    static void store(uint16_t* to, Vector<float, LANES> value) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
        if constexpr (LANES == 16) {
            const auto rounded = _mm512_cvtneps_pbh(same_bits<__m512>(value));
            std::memcpy(to, &rounded, sizeof rounded);
            return;
        }
        if constexpr (LANES == 8) {
            const auto rounded = _mm256_cvtneps_pbh(same_bits<__m256>(value));
            std::memcpy(to, &rounded, sizeof rounded);
            return;
        }
#endif
        typedef Vector<uint32_t, LANES> Bits;
        Bits bits = same_bits<Bits>(value), number = same_bits<Bits>(value == value);
        Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        rounded = (rounded & number) | (0x7fc0 & ~number);
        Format<uint16_t>::store<LANES>(to, __builtin_convertvector(rounded, Vector<uint16_t, LANES>));
    }
};

// Calls body with the widest vectors that fit, from `begin` to `count`.
template <class T, class Body>
void in_lanes(int64_t count, Body body) {
    constexpr int WIDE = REGISTER / sizeof(T);
    int64_t at = 0;
    for (; at + WIDE <= count; at += WIDE) body(std::integral_constant<int, WIDE>(), at);
    for (; at + WIDE / 2 <= count; at += WIDE / 2) body(std::integral_constant<int, WIDE / 2>(), at);
    for (; at < count; ++at) body(std::integral_constant<int, 1>(), at);
}

}  // namespace
