// How numbers are multiplied where a sum of many products is wanted: one by one, or two at a time where the processor
// multiplies pairs of bfloat16 and adds both products to a float32.
#pragma once

#include "vectors.hpp"

namespace {

template <class F>
struct Products {
    static constexpr int AT_ONCE = 1;
    typedef typename F::Number Number;
    typedef typename F::Sum Sum;
    typedef Sum Factor;

    // LANES factors of the numbers from `first` on, and those from `second` on where two go at once; null is zeros.
    template <int LANES>
    static Vector<Factor, LANES> factors(const Number* first, const Number*) {
        return F::template load<LANES>(first);
    }

    template <int LANES>
    static Vector<Sum, LANES> add(Vector<Sum, LANES> sum, Factor one, Vector<Factor, LANES> many) {
        return sum + one * many;
    }
};

#if defined(__AVX512BF16__)
template <>
struct Products<Bfloat16> {
    static constexpr int AT_ONCE = 2;
    typedef uint16_t Number;
    typedef float Sum;
    typedef uint32_t Factor;

    template <int LANES>
    static Vector<Factor, LANES> factors(const Number* first, const Number* second) {
        const auto low = Bfloat16::widened<LANES>(Format<Number>::load<LANES>(first));
        if (second == nullptr) return low;
        return low | Bfloat16::widened<LANES>(Format<Number>::load<LANES>(second)) << 16;
    }

    template <int LANES>
    static Vector<Sum, LANES> add(Vector<Sum, LANES> sum, Factor one, Vector<Factor, LANES> many) {
        static_assert(LANES == 16);
        return same_bits<Vector<Sum, LANES>>(_mm512_dpbf16_ps(
            same_bits<__m512>(sum), same_bits<__m512bh>(_mm512_set1_epi32(one)), same_bits<__m512bh>(many)));
    }
};
#endif

}  // namespace
