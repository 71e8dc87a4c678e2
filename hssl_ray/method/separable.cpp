// Responses of a feature map to 3 x 3 separable functions, and their adjoint. Maps lie as (images, rows, columns,
// channels), channels contiguous.
//
//   response[n, i, j, f, c] = sum_{s, t} along_rows[p, s] along_columns[q, t] map[n, stride i + s - padding,
//                                                                                  stride j + t - padding, c]
//   f = 3 q + p, or 3 p + q where the two sides are exchanged
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int FUNCTIONS = 3;

template <class T, int LANES>
using Vector __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)))) = T;

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
        auto bits = __builtin_convertvector(Format<uint16_t>::load<LANES>(from), Vector<uint32_t, LANES>);
        return same_bits<Vector<float, LANES>>(bits << 16);
    }

    // Rounds to nearest, ties to even; what is not a number stays so.
    template <int LANES>
    static void store(uint16_t* to, Vector<float, LANES> value) {
        typedef Vector<uint32_t, LANES> Bits;
        Bits bits = same_bits<Bits>(value), number = same_bits<Bits>(value == value);
        Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        rounded = (rounded & number) | (0x7fc0 & ~number);
        Format<uint16_t>::store<LANES>(to, __builtin_convertvector(rounded, Vector<uint16_t, LANES>));
    }
};

struct Shape {
    int64_t images, rows, columns, channels, out_rows, out_columns;
    int64_t size, stride, padding, exchanged;

    int64_t function(int p, int q) const { return exchanged ? p * FUNCTIONS + q : q * FUNCTIONS + p; }
};

// Calls body with the widest vectors that fit, from `begin` to `count`.
template <class T, class Body>
void in_lanes(int64_t count, Body body) {
    constexpr int WIDE = 64 / sizeof(T);
    int64_t at = 0;
    for (; at + WIDE <= count; at += WIDE) body(std::integral_constant<int, WIDE>(), at);
    for (; at + WIDE / 2 <= count; at += WIDE / 2) body(std::integral_constant<int, WIDE / 2>(), at);
    for (; at < count; ++at) body(std::integral_constant<int, 1>(), at);
}

template <class F, class T = typename F::Number, class S = typename F::Sum>
void responses_of_image(const T* map, T* response, const Shape& shape, const S* along_rows, const S* along_columns,
                        S* scratch) {
    const int64_t width = shape.columns * shape.channels;
    for (int64_t i = 0; i < shape.out_rows; ++i) {
        const int64_t top = i * shape.stride - shape.padding;
        const int64_t first = top < 0 ? -top : 0;
        const int64_t last = top + shape.size > shape.rows ? shape.rows - top : shape.size;
        in_lanes<S>(width, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            Vector<S, L> sums[FUNCTIONS] = {};
            for (int64_t s = first; s < last; ++s) {
                auto value = F::template load<L>(map + (top + s) * width + at);
                for (int p = 0; p < FUNCTIONS; ++p) sums[p] += along_rows[p * shape.size + s] * value;
            }
            for (int p = 0; p < FUNCTIONS; ++p) Format<S>::template store<L>(scratch + p * width + at, sums[p]);
        });
        for (int64_t j = 0; j < shape.out_columns; ++j) {
            const int64_t left = j * shape.stride - shape.padding;
            const int64_t from = left < 0 ? -left : 0;
            const int64_t to = left + shape.size > shape.columns ? shape.columns - left : shape.size;
            in_lanes<S>(shape.channels, [&](auto lanes, int64_t at) {
                constexpr int L = decltype(lanes)::value;
                Vector<S, L> sums[FUNCTIONS][FUNCTIONS] = {};
                for (int64_t t = from; t < to; ++t) {
                    for (int p = 0; p < FUNCTIONS; ++p) {
                        auto value = Format<S>::template load<L>(scratch + p * width + (left + t) * shape.channels + at);
                        for (int q = 0; q < FUNCTIONS; ++q) sums[p][q] += along_columns[q * shape.size + t] * value;
                    }
                }
                for (int p = 0; p < FUNCTIONS; ++p)
                    for (int q = 0; q < FUNCTIONS; ++q)
                        F::template store<L>(response + shape.function(p, q) * shape.channels + at, sums[p][q]);
            });
            response += FUNCTIONS * FUNCTIONS * shape.channels;
        }
    }
}

template <class F, class T = typename F::Number, class S = typename F::Sum>
void adjoint_of_image(const T* response, T* map, const Shape& shape, const S* along_rows, const S* along_columns,
                      S* scratch) {
    const int64_t width = shape.columns * shape.channels;
    std::memset(scratch, 0, sizeof(S) * shape.out_rows * FUNCTIONS * width);
    for (int64_t i = 0; i < shape.out_rows; ++i) {
        S* rows = scratch + i * FUNCTIONS * width;
        for (int64_t j = 0; j < shape.out_columns; ++j) {
            const int64_t left = j * shape.stride - shape.padding;
            const int64_t from = left < 0 ? -left : 0;
            const int64_t to = left + shape.size > shape.columns ? shape.columns - left : shape.size;
            in_lanes<S>(shape.channels, [&](auto lanes, int64_t at) {
                constexpr int L = decltype(lanes)::value;
                Vector<S, L> values[FUNCTIONS][FUNCTIONS];
                for (int p = 0; p < FUNCTIONS; ++p)
                    for (int q = 0; q < FUNCTIONS; ++q)
                        values[p][q] = F::template load<L>(response + shape.function(p, q) * shape.channels + at);
                for (int64_t t = from; t < to; ++t) {
                    for (int p = 0; p < FUNCTIONS; ++p) {
                        S* place = rows + p * width + (left + t) * shape.channels + at;
                        auto sum = Format<S>::template load<L>(place);
                        for (int q = 0; q < FUNCTIONS; ++q) sum += along_columns[q * shape.size + t] * values[p][q];
                        Format<S>::template store<L>(place, sum);
                    }
                }
            });
            response += FUNCTIONS * FUNCTIONS * shape.channels;
        }
    }
    for (int64_t row = 0; row < shape.rows; ++row) {
        // Output rows i with 0 <= row + padding - stride i < size.
        const int64_t reach = row + shape.padding;
        const int64_t first = reach < shape.size ? 0 : (reach - shape.size) / shape.stride + 1;
        int64_t last = reach < 0 ? -1 : reach / shape.stride;
        if (last > shape.out_rows - 1) last = shape.out_rows - 1;
        in_lanes<S>(width, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            Vector<S, L> sum = {};
            for (int64_t i = first; i <= last; ++i) {
                const int64_t s = reach - i * shape.stride;
                for (int p = 0; p < FUNCTIONS; ++p)
                    sum += along_rows[p * shape.size + s] * Format<S>::template load<L>(scratch + (i * FUNCTIONS + p) * width + at);
            }
            F::template store<L>(map + row * width + at, sum);
        });
    }
}

template <class F, class T = typename F::Number, class S = typename F::Sum>
void responses(const void* map, void* response, const int64_t* sizes, const void* along_rows,
               const void* along_columns, int threads) {
    Shape shape;
    std::memcpy(&shape, sizes, sizeof shape);
    const int64_t in = shape.rows * shape.columns * shape.channels;
    const int64_t out = shape.out_rows * shape.out_columns * FUNCTIONS * FUNCTIONS * shape.channels;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<S> scratch(FUNCTIONS * shape.columns * shape.channels);
#pragma omp for
        for (int64_t n = 0; n < shape.images; ++n)
            responses_of_image<F>(static_cast<const T*>(map) + n * in, static_cast<T*>(response) + n * out, shape,
                                  static_cast<const S*>(along_rows), static_cast<const S*>(along_columns),
                                  scratch.data());
    }
}

template <class F, class T = typename F::Number, class S = typename F::Sum>
void adjoint(const void* response, void* map, const int64_t* sizes, const void* along_rows, const void* along_columns,
             int threads) {
    Shape shape;
    std::memcpy(&shape, sizes, sizeof shape);
    const int64_t in = shape.rows * shape.columns * shape.channels;
    const int64_t out = shape.out_rows * shape.out_columns * FUNCTIONS * FUNCTIONS * shape.channels;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<S> scratch(shape.out_rows * FUNCTIONS * shape.columns * shape.channels);
#pragma omp for
        for (int64_t n = 0; n < shape.images; ++n)
            adjoint_of_image<F>(static_cast<const T*>(response) + n * out, static_cast<T*>(map) + n * in, shape,
                                static_cast<const S*>(along_rows), static_cast<const S*>(along_columns),
                                scratch.data());
    }
}

}  // namespace

#define EXPORT(name, format)                                                                                           \
    extern "C" void responses_##name(const void* m, void* r, const int64_t* s, const void* u, const void* v, int t) {  \
        responses<format>(m, r, s, u, v, t);                                                                           \
    }                                                                                                                \
    extern "C" void adjoint_##name(const void* r, void* m, const int64_t* s, const void* u, const void* v, int t) {    \
        adjoint<format>(r, m, s, u, v, t);                                                                             \
    }

EXPORT(float32, Format<float>)
EXPORT(float64, Format<double>)
EXPORT(bfloat16, Bfloat16)
