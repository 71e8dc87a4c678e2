// Responses of a feature map to 3 x 3 separable functions, and their adjoint. Maps lie as (images, rows, columns,
// channels), channels contiguous.
//
//   response[n, i, j, f, c] = sum_{s, t} along_rows[p, s] along_columns[q, t] map[n, stride i + s - padding,
//                                                                                  stride j + t - padding, c]
//   f = 3 q + p, or 3 p + q where the two sides are exchanged
#pragma once

#include "vectors.hpp"

namespace {

constexpr int FUNCTIONS = 3;

struct Shape {
    int64_t images, rows, columns, channels, out_rows, out_columns;
    int64_t size, stride, padding, exchanged;

    int64_t function(int p, int q) const { return exchanged ? p * FUNCTIONS + q : q * FUNCTIONS + p; }
};

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
               const void* along_columns, int64_t threads) {
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
             int64_t threads) {
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
