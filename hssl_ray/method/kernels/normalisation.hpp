// Batch normalisation of rows of channels, with or without a ReLU behind it, in as few passes over memory as it takes.
//
// Numbers are summed in their own width over a chunk of rows that stays in a core's cache, and in double over chunks.
#pragma once

#include <algorithm>

#include "vectors.hpp"

namespace {

constexpr int64_t CHUNK = 16384;      // numbers
constexpr int64_t CHUNK_ROWS = 512;  // a longer sum in float32 loses digits
constexpr int AT_ONCE = 4;           // rows whose sums do not wait for each other

// Runs body(first row, rows, own totals) on chunks, each thread on a run of neighbours, and then
// join(totals of a thread) in order.
template <class Totals, class Body, class Join>
void in_chunks(int64_t rows, int64_t channels, int64_t threads, Body body, Join join) {
    const int64_t size = std::clamp<int64_t>(CHUNK / channels, 1, CHUNK_ROWS);
    const int64_t chunks = (rows + size - 1) / size;
    std::vector<Totals> totals(threads, Totals(channels));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int64_t all = omp_get_num_threads(), mine = omp_get_thread_num();
        for (int64_t chunk = chunks * mine / all; chunk < chunks * (mine + 1) / all; ++chunk) {
            const int64_t first = chunk * size;
            body(first, std::min(size, rows - first), totals[mine]);
        }
    }
    for (auto& of_thread : totals) join(of_thread);
}

// Calls body(which sum, row) for each row.
template <class Body>
void each_at_once(int64_t rows, Body body) {
    int64_t row = 0;
    for (; row + AT_ONCE <= rows; row += AT_ONCE)
        for (int i = 0; i < AT_ONCE; ++i) body(i, row + i);
    for (; row < rows; ++row) body(0, row);
}

// Adds up term(row) over rows, lane by lane.
template <class S, int L, class Term>
Vector<S, L> sum_over(int64_t rows, Term term) {
    Vector<S, L> sums[AT_ONCE] = {};
    each_at_once(rows, [&](int i, int64_t row) { sums[i] += term(row); });
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Count, mean and sum of squares about it, for each channel.
struct Moments {
    explicit Moments(int64_t channels) : count(0), mean(channels, 0.0), squares(channels, 0.0) {}

    // Chan, Golub and LeVeque, 1983.
    void join(const double* other_mean, const double* other_squares, int64_t other) {
        if (other == 0) return;
        const double all = double(count + other);
        for (size_t c = 0; c < mean.size(); ++c) {
            const double apart = other_mean[c] - mean[c];
            mean[c] += apart * (double(other) / all);
            squares[c] += other_squares[c] + apart * apart * (double(count) * double(other) / all);
        }
        count += other;
    }

    int64_t count;
    std::vector<double> mean, squares;
};

template <class F, class T = typename F::Number, class S = typename F::Sum>
void moments(const void* x, int64_t rows, int64_t channels, double* mean, double* squares, int64_t threads) {
    Moments total(channels);
    auto body = [&](int64_t first, int64_t count, Moments& own) {
        const T* chunk = static_cast<const T*>(x) + first * channels;
        std::vector<double> chunk_mean(channels), chunk_squares(channels);
        in_lanes<S>(channels, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            auto value = [&](int64_t row) { return F::template load<L>(chunk + row * channels + at); };
            const Vector<S, L> centre = sum_over<S, L>(count, value) / S(count);
            const Vector<S, L> about = sum_over<S, L>(count, [&](int64_t row) {
                auto apart = value(row) - centre;
                return apart * apart;
            });
            for (int i = 0; i < L; ++i) chunk_mean[at + i] = centre[i], chunk_squares[at + i] = about[i];
        });
        own.join(chunk_mean.data(), chunk_squares.data(), count);
    };
    in_chunks<Moments>(rows, channels, threads, body,
                       [&](Moments& own) { total.join(own.mean.data(), own.squares.data(), own.count); });
    std::copy(total.mean.begin(), total.mean.end(), mean);
    std::copy(total.squares.begin(), total.squares.end(), squares);
}

// y = scale x + offset, then a ReLU if asked for.
template <class F, class T = typename F::Number, class S = typename F::Sum>
void normalise(const void* x, void* y, int64_t rows, int64_t channels, const S* scale, const S* offset, int64_t relu,
               int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; ++row) {
        const T* from = static_cast<const T*>(x) + row * channels;
        T* to = static_cast<T*>(y) + row * channels;
        in_lanes<S>(channels, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            auto value = Format<S>::template load<L>(scale + at) * F::template load<L>(from + at) +
                         Format<S>::template load<L>(offset + at);
            // What is not a number is not below zero, and so stays.
            F::template store<L>(to + at, relu ? (value < 0 ? Vector<S, L>{} : value) : value);
        });
    }
}

struct Sums {
    explicit Sums(int64_t channels) : of_grad(channels, 0.0), of_product(channels, 0.0) {}

    std::vector<double> of_grad, of_product;
};

// dy, but zero where the ReLU was.
template <class S, int L>
Vector<S, L> passed(Vector<S, L> grad, Vector<S, L> x, Vector<S, L> scale, Vector<S, L> offset, int64_t relu) {
    return relu ? (scale * x + offset <= 0 ? Vector<S, L>{} : grad) : grad;
}

// Sums over rows of dy and of dy (x - mean).
template <class F, class T = typename F::Number, class S = typename F::Sum>
void gradient_sums(const void* x, const void* grad, int64_t rows, int64_t channels, const S* scale, const S* offset,
                   const S* mean, int64_t relu, double* of_grad, double* of_product, int64_t threads) {
    std::fill(of_grad, of_grad + channels, 0.0);
    std::fill(of_product, of_product + channels, 0.0);
    auto body = [&](int64_t first, int64_t count, Sums& own) {
        const T* values = static_cast<const T*>(x) + first * channels;
        const T* grads = static_cast<const T*>(grad) + first * channels;
        in_lanes<S>(channels, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            const auto a = Format<S>::template load<L>(scale + at), b = Format<S>::template load<L>(offset + at);
            const auto centre = Format<S>::template load<L>(mean + at);
            Vector<S, L> plain[AT_ONCE] = {}, times[AT_ONCE] = {};
            each_at_once(count, [&](int i, int64_t row) {
                const auto value = F::template load<L>(values + row * channels + at);
                const auto g = passed<S, L>(F::template load<L>(grads + row * channels + at), value, a, b, relu);
                plain[i] += g;
                times[i] += g * (value - centre);
            });
            const Vector<S, L> all = (plain[0] + plain[1]) + (plain[2] + plain[3]);
            const Vector<S, L> products = (times[0] + times[1]) + (times[2] + times[3]);
            for (int i = 0; i < L; ++i) own.of_grad[at + i] += all[i], own.of_product[at + i] += products[i];
        });
    };
    in_chunks<Sums>(rows, channels, threads, body, [&](Sums& own) {
        for (int64_t c = 0; c < channels; ++c) of_grad[c] += own.of_grad[c], of_product[c] += own.of_product[c];
    });
}

// dx = scale dy + from_x x + constant.
template <class F, class T = typename F::Number, class S = typename F::Sum>
void normalise_back(const void* x, const void* grad, void* grad_x, int64_t rows, int64_t channels, const S* scale,
                    const S* offset, const S* from_x, const S* constant, int64_t relu, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; ++row) {
        const T* values = static_cast<const T*>(x) + row * channels;
        const T* grads = static_cast<const T*>(grad) + row * channels;
        T* to = static_cast<T*>(grad_x) + row * channels;
        in_lanes<S>(channels, [&](auto lanes, int64_t at) {
            constexpr int L = decltype(lanes)::value;
            const auto a = Format<S>::template load<L>(scale + at), b = Format<S>::template load<L>(offset + at);
            const auto value = F::template load<L>(values + at);
            const auto g = passed<S, L>(F::template load<L>(grads + at), value, a, b, relu);
            F::template store<L>(to + at, a * g + (Format<S>::template load<L>(from_x + at) * value +
                                                   Format<S>::template load<L>(constant + at)));
        });
    }
}

}  // namespace
