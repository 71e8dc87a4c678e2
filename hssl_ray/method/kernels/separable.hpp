// Responses of a feature map to 3 x 3 separable functions, and their adjoint. Maps lie as (images, rows, columns,
// channels), channels contiguous.
//
//   response[n, i, j, f, c] = sum_{s, t} along_rows[p, s] along_columns[q, t] map[n, stride i + s - padding,
//                                                                                  stride j + t - padding, c]
//   f = 3 q + p, or 3 p + q where the two sides are exchanged
#pragma once

#include <algorithm>

#include "vectors.hpp"

namespace {

constexpr int FUNCTIONS = 3;
constexpr int LARGEST = 31;  // kernel

struct Shape {
    int64_t images, rows, columns, channels, out_rows, out_columns;
    int64_t size, stride, padding, exchanged;

    int64_t function(int p, int q) const { return exchanged ? p * FUNCTIONS + q : q * FUNCTIONS + p; }
};

// How one image is walked through. SIZE and STRIDE are the kernel's where they are known to the compiler, else 0.
template <class F, int SIZE, int STRIDE>
struct Image {
    typedef typename F::Number T;
    typedef typename F::Sum S;

    Image(const Shape& shape, const S* along_rows, const S* along_columns)
        : shape(shape),
          size(SIZE ? SIZE : shape.size),
          width(shape.columns * shape.channels),
          left(std::max<int64_t>(0, shape.padding)),
          right(std::max<int64_t>(0, (shape.out_columns - 1) * shape.stride - shape.padding + size - shape.columns)),
          padded((left + shape.columns + right) * shape.channels),
          along_rows(along_rows),
          along_columns(along_columns),
          nothing(width) {}

    // Along the rows first, into three lines with empty cells on either side; then along the columns of those.
    void responses(const T* map, T* response) {
        lines.assign(FUNCTIONS * padded, S(0));
        for (int64_t i = 0; i < shape.out_rows; ++i) {
            const int64_t top = i * shape.stride - shape.padding;
            const T* rows[LARGEST];
            for (int s = 0; s < size; ++s) rows[s] = inside(top + s) ? map + (top + s) * width : nothing.data();
            S* line = lines.data() + left * shape.channels;
            in_lanes<S>(width, [&](auto lanes, int64_t at) {
                constexpr int L = decltype(lanes)::value;
                Vector<S, L> sums[FUNCTIONS] = {};
#pragma GCC unroll 7
                for (int s = 0; s < size; ++s) {
                    const auto value = F::template load<L>(rows[s] + at);
                    for (int p = 0; p < FUNCTIONS; ++p) sums[p] += along_rows[p * size + s] * value;
                }
                for (int p = 0; p < FUNCTIONS; ++p) Format<S>::template store<L>(line + p * padded + at, sums[p]);
            });
            for (int64_t j = 0; j < shape.out_columns; ++j) {
                const S* from = lines.data() + (j * shape.stride - shape.padding + left) * shape.channels;
                in_lanes<S>(shape.channels, [&](auto lanes, int64_t at) {
                    constexpr int L = decltype(lanes)::value;
                    Vector<S, L> sums[FUNCTIONS][FUNCTIONS] = {};
#pragma GCC unroll 7
                    for (int t = 0; t < size; ++t) {
                        for (int p = 0; p < FUNCTIONS; ++p) {
                            const auto value = Format<S>::template load<L>(from + p * padded + t * shape.channels + at);
                            for (int q = 0; q < FUNCTIONS; ++q) sums[p][q] += along_columns[q * size + t] * value;
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

    // The same way back: what each output row gives to its three lines, then what each input row gets from them.
    void adjoint(const T* response, T* map) {
        const size_t cells = shape.out_rows * FUNCTIONS * padded;
        // A window writes the same cells for every image, and none beside them.
        if (lines.size() != cells || !SIZE) lines.assign(cells, S(0));
        for (int64_t i = 0; i < shape.out_rows; ++i) {
            S* line = lines.data() + i * FUNCTIONS * padded + (left - shape.padding) * shape.channels;
            in_lanes<S>(shape.channels, [&](auto lanes, int64_t at) {
                constexpr int L = decltype(lanes)::value;
                if constexpr (SIZE && STRIDE)
                    slide<L>(response + at, line + at);
                else
                    scatter<L>(response + at, line + at);
            });
            response += shape.out_columns * FUNCTIONS * FUNCTIONS * shape.channels;
        }
        for (int64_t row = 0; row < shape.rows; ++row) {
            // Output rows i with 0 <= row + padding - stride i < size.
            const int64_t reach = row + shape.padding;
            const int64_t first = reach < size ? 0 : (reach - size) / shape.stride + 1;
            const int64_t last = reach < 0 ? -1 : std::min(reach / shape.stride, shape.out_rows - 1);
            const S* line = lines.data() + left * shape.channels;
            in_lanes<S>(width, [&](auto lanes, int64_t at) {
                constexpr int L = decltype(lanes)::value;
                Vector<S, L> sums[FUNCTIONS] = {};
                const S *from = line + first * FUNCTIONS * padded + at, *factor = along_rows + reach - first * shape.stride;
                for (int64_t i = first; i <= last; ++i) {
                    for (int p = 0; p < FUNCTIONS; ++p)
                        sums[p] += factor[p * size] * Format<S>::template load<L>(from + p * padded);
                    from += FUNCTIONS * padded;
                    factor -= shape.stride;
                }
                F::template store<L>(map + row * width + at, sums[0] + sums[1] + sums[2]);
            });
        }
    }

    // Adds each place's share to the cells it saw, in a window that moves along the line and stays in registers.
    template <int L>
    void slide(const T* response, S* line) {
        Vector<S, L> window[FUNCTIONS][SIZE] = {};
        for (int64_t j = 0; j < shape.out_columns; ++j) {
            const auto values = values_at<L>(response, j);
#pragma GCC unroll 7
            for (int t = 0; t < SIZE; ++t)
                for (int p = 0; p < FUNCTIONS; ++p)
                    for (int q = 0; q < FUNCTIONS; ++q)
                        window[p][t] += along_columns[q * SIZE + t] * values.of[p][q];
            for (int p = 0; p < FUNCTIONS; ++p) {
#pragma GCC unroll 7
                for (int t = 0; t < SIZE; ++t) {
                    if (t < STRIDE)
                        Format<S>::template store<L>(line + p * padded + (j * STRIDE + t) * shape.channels, window[p][t]);
                    window[p][t] = t + STRIDE < SIZE ? window[p][(t + STRIDE) % SIZE] : Vector<S, L>{};
                }
            }
        }
        for (int p = 0; p < FUNCTIONS; ++p)
            for (int t = 0; t < SIZE - STRIDE; ++t)
                Format<S>::template store<L>(line + p * padded + (shape.out_columns * STRIDE + t) * shape.channels,
                                             window[p][t]);
    }

    // The same for sizes and strides that the compiler does not know.
    template <int L>
    void scatter(const T* response, S* line) {
        for (int64_t j = 0; j < shape.out_columns; ++j) {
            const auto values = values_at<L>(response, j);
            for (int t = 0; t < size; ++t) {
                for (int p = 0; p < FUNCTIONS; ++p) {
                    S* place = line + p * padded + (j * shape.stride + t) * shape.channels;
                    auto sum = Format<S>::template load<L>(place);
                    for (int q = 0; q < FUNCTIONS; ++q) sum += along_columns[q * size + t] * values.of[p][q];
                    Format<S>::template store<L>(place, sum);
                }
            }
        }
    }

    template <int L>
    struct Values {
        Vector<S, L> of[FUNCTIONS][FUNCTIONS];
    };

    template <int L>
    Values<L> values_at(const T* response, int64_t j) const {
        const T* place = response + j * FUNCTIONS * FUNCTIONS * shape.channels;
        Values<L> values;
        for (int p = 0; p < FUNCTIONS; ++p)
            for (int q = 0; q < FUNCTIONS; ++q)
                values.of[p][q] = F::template load<L>(place + shape.function(p, q) * shape.channels);
        return values;
    }

    bool inside(int64_t row) const { return 0 <= row && row < shape.rows; }

    const Shape& shape;
    const int size;
    const int64_t width, left, right, padded;
    const S *along_rows, *along_columns;
    const std::vector<T> nothing;
    std::vector<S> lines;
};

template <class F, int SIZE, int STRIDE, class Step>
void over_images(const int64_t* sizes, const void* along_rows, const void* along_columns, int64_t threads, Step step) {
    typedef typename F::Sum S;
    Shape shape;
    std::memcpy(&shape, sizes, sizeof shape);
    const int64_t map = shape.rows * shape.columns * shape.channels;
    const int64_t response = shape.out_rows * shape.out_columns * FUNCTIONS * FUNCTIONS * shape.channels;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Image<F, SIZE, STRIDE> image(shape, static_cast<const S*>(along_rows), static_cast<const S*>(along_columns));
#pragma omp for
        for (int64_t n = 0; n < shape.images; ++n) step(image, n * map, n * response);
    }
}

template <class F, class Step>
void over_images(const int64_t* sizes, const void* along_rows, const void* along_columns, int64_t threads, Step step) {
    const int64_t size = sizes[6], stride = sizes[7];
    if (size == 7 && stride == 1) return over_images<F, 7, 1>(sizes, along_rows, along_columns, threads, step);
    if (size == 7 && stride == 2) return over_images<F, 7, 2>(sizes, along_rows, along_columns, threads, step);
    if (size == 5 && stride == 1) return over_images<F, 5, 1>(sizes, along_rows, along_columns, threads, step);
    if (size == 5 && stride == 2) return over_images<F, 5, 2>(sizes, along_rows, along_columns, threads, step);
    return over_images<F, 0, 0>(sizes, along_rows, along_columns, threads, step);
}

template <class F, class T = typename F::Number>
void responses(const void* map, void* response, const int64_t* sizes, const void* along_rows,
               const void* along_columns, int64_t threads) {
    over_images<F>(sizes, along_rows, along_columns, threads, [&](auto& image, int64_t at, int64_t to) {
        image.responses(static_cast<const T*>(map) + at, static_cast<T*>(response) + to);
    });
}

template <class F, class T = typename F::Number>
void adjoint(const void* response, void* map, const int64_t* sizes, const void* along_rows, const void* along_columns,
             int64_t threads) {
    over_images<F>(sizes, along_rows, along_columns, threads, [&](auto& image, int64_t at, int64_t from) {
        image.adjoint(static_cast<const T*>(response) + from, static_cast<T*>(map) + at);
    });
}

}  // namespace
