// What each place of a convolution sees, as the row of a matrix. Maps lie as (images, rows, columns, channels).
#pragma once

#include <algorithm>

#include "vectors.hpp"

namespace {

// Row (n, i, j) holds map[n, stride i + s - padding, stride j + t - padding, c] at (s size + t) channels + c, zeros
// where that is outside, and zeros from there to its end.
template <class F, class T = typename F::Number>
void patches(const void* maps, void* matrix, const int64_t* sizes, int64_t threads) {
    const int64_t images = sizes[0], rows = sizes[1], columns = sizes[2], channels = sizes[3], out_rows = sizes[4],
                  out_columns = sizes[5], size = sizes[6], stride = sizes[7], padding = sizes[8], length = sizes[9];
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < images; ++n) {
        const T* map = static_cast<const T*>(maps) + n * rows * columns * channels;
        T* to = static_cast<T*>(matrix) + n * out_rows * out_columns * length;
        for (int64_t i = 0; i < out_rows; ++i) {
            for (int64_t j = 0; j < out_columns; ++j, to += length) {
                const int64_t left = j * stride - padding;
                const int64_t from = std::max<int64_t>(0, -left), until = std::min(size, columns - left);
                std::memset(to, 0, length * sizeof(T));
                for (int64_t s = 0; s < size; ++s) {
                    const int64_t row = i * stride - padding + s;
                    if (row < 0 || row >= rows || until <= from) continue;
                    std::memcpy(to + (s * size + from) * channels, map + (row * columns + left + from) * channels,
                                (until - from) * channels * sizeof(T));
                }
            }
        }
    }
}

}  // namespace
