// Convolutions of images with the kernels of all lifted elements at once, and the gradient of those kernels.
//
//   map[g, n, i, j, c'] = sum_{s, t, c} kernel[s, t, c, g, c'] image[n, stride i + s - padding, stride j + t - padding, c]
//
// Images lie as (images, rows, columns, channels), maps as (elements, images, rows, columns, channels). A tap is a
// (t, c) of one of the kernel's rows s, an output a (g, c'). Sums for some places or taps and some vectors of outputs
// stay in registers.
#pragma once

#include <algorithm>
#include <utility>

#include "products.hpp"

namespace {

// What 32 registers hold, or 16: so many vectors of sums, those of one factor, and one number of the other.
constexpr int SUMS_ALONG = REGISTER == 64 ? 8 : 6;   // places, or taps
constexpr int SUMS_ACROSS = REGISTER == 64 ? 3 : 2;  // vectors of outputs
constexpr int64_t BAND = 8;                          // rows of places that a gradient is summed over at once

struct LiftingShape {
    int64_t images, rows, columns, channels, elements, out_rows, out_columns, out_channels;
    int64_t size, stride, padding;

    int64_t outputs() const { return elements * out_channels; }
    int64_t image() const { return rows * columns * channels; }
};

// Calls body(count as a constant), for a count from 1 to MOST.
template <int MOST, class Body>
void known_to_compiler(int64_t count, Body body) {
    if constexpr (MOST > 1)
        if (count < MOST) return known_to_compiler<MOST - 1>(count, body);
    body(std::integral_constant<int, MOST>());
}

// Calls body(first, count) on parts of `all` that differ by one at most, none larger than MOST.
template <int MOST, class Body>
void in_parts(int64_t all, Body body) {
    const int64_t parts = (all + MOST - 1) / MOST;
    for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = all * part / parts;
        known_to_compiler<MOST>(all * (part + 1) / parts - first, [&](auto count) { body(first, count); });
    }
}

template <class F>
class Lifting {
    typedef Products<F> P;
    typedef typename P::Number T;
    typedef typename P::Sum S;
    typedef typename P::Factor Factor;
    static constexpr int LANES = REGISTER / sizeof(S);
    typedef Vector<S, LANES> Sums;
    typedef Vector<Factor, LANES> Factors;
    template <int COUNT>
    using Known = std::integral_constant<int, COUNT>;

   public:
    explicit Lifting(const LiftingShape& shape)
        : shape(shape),
          taps(shape.size * shape.channels),
          vectors((shape.outputs() + LANES - 1) / LANES),
          width(vectors * LANES),
          apart(shape.stride * shape.channels),
          line((shape.columns + 2 * shape.padding) * shape.channels),
          padded((shape.rows + 2 * shape.padding) * line + apart),  // and what the last one's neighbour would be
          seen(padded.size()) {}

    // From kernels as (size, taps, outputs).
    void set_kernels(const T* from) {
        factors.assign(shape.size * together(taps) * width, Factor(0));
        places.resize(shape.out_columns * width);
        Factor* to = factors.data();
        for (int64_t s = 0; s < shape.size; ++s, from += taps * shape.outputs())
            for (int64_t tap = 0; tap < taps; tap += P::AT_ONCE, to += width) {
                const T* first = from + tap * shape.outputs();
                lay_out(first, tap + 1 < taps ? first + shape.outputs() : nullptr, shape.outputs(), to);
            }
    }

    void convolve(const T* image, T* maps, int64_t n) {
        see(image, 1);
        for (int64_t i = 0; i < shape.out_rows; ++i) {
            const Factor* row = seen.data() + i * shape.stride * line;
            in_parts<SUMS_ACROSS>(vectors, [&](int64_t vector, auto across) {
                in_parts<SUMS_ALONG>(shape.out_columns, [&](int64_t j, auto along) {
                    const int64_t at = vector * LANES;
                    sum_over_taps(along, across, row + j * apart, factors.data() + at, places.data() + j * width + at);
                });
            });
            for (int64_t g = 0; g < shape.elements; ++g) {
                T* to = maps + first_place(g, n, i);
                const S* from = places.data() + g * shape.out_channels;
                for (int64_t j = 0; j < shape.out_columns; ++j, to += shape.out_channels, from += width)
                    in_lanes<S>(shape.out_channels, [&](auto lanes, int64_t at) {
                        constexpr int L = decltype(lanes)::value;
                        F::template store<L>(to + at, Format<S>::template load<L>(from + at));
                    });
            }
        }
    }

    void clear_gradient() {
        places.assign(shape.size * taps * width, S(0));
        factors.assign(BAND * together(shape.out_columns) * width, Factor(0));
    }

    // Adds the gradient of the kernels by one image to `totals`, (size, taps, outputs).
    void add_gradient(const T* image, const T* grad, int64_t n, double* totals) {
        see(image, apart);
        for (int64_t i = 0; i < shape.out_rows; i += BAND) {
            const int64_t rows = std::min(BAND, shape.out_rows - i);
            set_gradient(grad, n, i, rows);
            for (int64_t s = 0; s < shape.size; ++s) {
                const Factor* row = seen.data() + (i * shape.stride + s) * line;
                in_parts<SUMS_ACROSS>(vectors, [&](int64_t vector, auto across) {
                    in_parts<SUMS_ALONG>(taps, [&](int64_t tap, auto along) {
                        const int64_t at = vector * LANES;
                        sum_over_places(along, across, rows, row + tap, factors.data() + at,
                                        places.data() + (s * taps + tap) * width + at);
                    });
                });
            }
        }
        for (int64_t tap = 0; tap < shape.size * taps; ++tap)
            for (int64_t output = 0; output < shape.outputs(); ++output)
                *totals++ += std::exchange(places[tap * width + output], S(0));
    }

   private:
    static int64_t together(int64_t count) { return (count + P::AT_ONCE - 1) / P::AT_ONCE; }

    int64_t first_place(int64_t g, int64_t n, int64_t i) const {
        return ((g * shape.images + n) * shape.out_rows + i) * shape.out_columns * shape.out_channels;
    }

    static void lay_out(const T* first, const T* second, int64_t count, Factor* to) {
        in_lanes<S>(count, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            const auto both = P::template factors<L>(first + at, second == nullptr ? nullptr : second + at);
            std::memcpy(to + at, &both, sizeof both);
        });
    }

    // The image with zeros around it, as factors; those that go at once lie so far apart.
    void see(const T* image, int64_t distance) {
        const int64_t row = shape.columns * shape.channels;
        for (int64_t i = 0; i < shape.rows; ++i)
            std::copy_n(image + i * row, row, padded.data() + (i + shape.padding) * line + shape.padding * shape.channels);
        lay_out(padded.data(), padded.data() + distance, padded.size() - distance, seen.data());
    }

    // The gradient of some rows of places, as factors.
    void set_gradient(const T* grad, int64_t n, int64_t i, int64_t rows) {
        for (int64_t g = 0; g < shape.elements; ++g) {
            const T* from = grad + first_place(g, n, i);
            Factor* to = factors.data() + g * shape.out_channels;
            for (int64_t row = 0; row < rows; ++row)
                for (int64_t j = 0; j < shape.out_columns; j += P::AT_ONCE, to += width) {
                    const T* first = from + (row * shape.out_columns + j) * shape.out_channels;
                    const T* second = j + 1 < shape.out_columns ? first + shape.out_channels : nullptr;
                    lay_out(first, second, shape.out_channels, to);
                }
        }
    }

    template <int PLACES, int ACROSS>
    void sum_over_taps(Known<PLACES>, Known<ACROSS>, const Factor* row, const Factor* kernel, S* to) const {
        Sums sums[PLACES][ACROSS] = {};
        for (int64_t s = 0; s < shape.size; ++s, row += line)
            for (int64_t tap = 0; tap < taps; tap += P::AT_ONCE, kernel += width) {
                Factors of_kernel[ACROSS];
                for (int v = 0; v < ACROSS; ++v) std::memcpy(&of_kernel[v], kernel + v * LANES, sizeof of_kernel[v]);
                for (int p = 0; p < PLACES; ++p)
                    for (int v = 0; v < ACROSS; ++v)
                        sums[p][v] = P::template add<LANES>(sums[p][v], row[p * apart + tap], of_kernel[v]);
            }
        for (int p = 0; p < PLACES; ++p)
            for (int v = 0; v < ACROSS; ++v) Format<S>::template store<LANES>(to + p * width + v * LANES, sums[p][v]);
    }

    template <int TAPS, int ACROSS>
    void sum_over_places(Known<TAPS>, Known<ACROSS>, int64_t rows, const Factor* top, const Factor* grad, S* to) const {
        Sums sums[TAPS][ACROSS];
        for (int t = 0; t < TAPS; ++t)
            for (int v = 0; v < ACROSS; ++v) sums[t][v] = Format<S>::template load<LANES>(to + t * width + v * LANES);
        for (int64_t i = 0; i < rows; ++i, top += shape.stride * line) {
            const Factor* row = top;
            for (int64_t j = 0; j < shape.out_columns; j += P::AT_ONCE, row += P::AT_ONCE * apart, grad += width) {
                Factors of_grad[ACROSS];
                for (int v = 0; v < ACROSS; ++v) std::memcpy(&of_grad[v], grad + v * LANES, sizeof of_grad[v]);
                for (int t = 0; t < TAPS; ++t)
                    for (int v = 0; v < ACROSS; ++v)
                        sums[t][v] = P::template add<LANES>(sums[t][v], row[t], of_grad[v]);
            }
        }
        for (int t = 0; t < TAPS; ++t)
            for (int v = 0; v < ACROSS; ++v) Format<S>::template store<LANES>(to + t * width + v * LANES, sums[t][v]);
    }

    const LiftingShape& shape;
    const int64_t taps;     // of a row of the kernel
    const int64_t vectors;  // of outputs
    const int64_t width;    // numbers of those
    const int64_t apart;    // numbers between what neighbouring places see
    const int64_t line;     // numbers of a padded row
    std::vector<T> padded;
    std::vector<Factor> seen;     // the padded image
    std::vector<Factor> factors;  // kernels, or gradients of places
    std::vector<S> places;        // sums of a row of places, or of all taps
};

template <class F, class T = typename F::Number>
void lift(const void* images, const void* kernels, void* maps, const int64_t* sizes, int64_t threads) {
    LiftingShape shape;
    std::memcpy(&shape, sizes, sizeof shape);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Lifting<F> lifting(shape);
        lifting.set_kernels(static_cast<const T*>(kernels));
#pragma omp for
        for (int64_t n = 0; n < shape.images; ++n)
            lifting.convolve(static_cast<const T*>(images) + n * shape.image(), static_cast<T*>(maps), n);
    }
}

template <class F, class T = typename F::Number, class S = typename F::Sum>
void lift_back(const void* images, const void* grad, void* grad_kernels, const int64_t* sizes, int64_t threads) {
    LiftingShape shape;
    std::memcpy(&shape, sizes, sizeof shape);
    const int64_t numbers = shape.size * shape.size * shape.channels * shape.outputs();
    std::vector<std::vector<double>> totals(threads, std::vector<double>(numbers, 0.0));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Lifting<F> lifting(shape);
        lifting.clear_gradient();
        double* mine = totals[omp_get_thread_num()].data();
#pragma omp for schedule(static)
        for (int64_t n = 0; n < shape.images; ++n)
            lifting.add_gradient(static_cast<const T*>(images) + n * shape.image(), static_cast<const T*>(grad), n, mine);
    }
    for (int64_t at = 0; at < numbers; ++at) {
        double sum = 0;
        for (const auto& of_thread : totals) sum += of_thread[at];
        static_cast<S*>(grad_kernels)[at] = S(sum);
    }
}

}  // namespace
