// The doors that Python comes in by: one function for each kernel and number type.
#include "lifting.hpp"
#include "normalisation.hpp"
#include "separable.hpp"

#define EXPORT(name, format)                                                                                           \
    extern "C" void responses_##name(const void* map, void* response, const int64_t* sizes, const void* along_rows,    \
                                     const void* along_columns, int64_t threads) {                                     \
        responses<format>(map, response, sizes, along_rows, along_columns, threads);                                   \
    }                                                                                                                  \
    extern "C" void adjoint_##name(const void* response, void* map, const int64_t* sizes, const void* along_rows,      \
                                   const void* along_columns, int64_t threads) {                                       \
        adjoint<format>(response, map, sizes, along_rows, along_columns, threads);                                     \
    }                                                                                                                  \
    extern "C" void lift_##name(const void* images, const void* kernels, void* maps, const int64_t* sizes,             \
                                int64_t threads) {                                                                     \
        lift<format>(images, kernels, maps, sizes, threads);                                                           \
    }                                                                                                                  \
    extern "C" void lift_back_##name(const void* images, const void* grad, void* grad_kernels, const int64_t* sizes,   \
                                     int64_t threads) {                                                                \
        lift_back<format>(images, grad, grad_kernels, sizes, threads);                                                 \
    }                                                                                                                  \
    extern "C" void moments_##name(const void* x, int64_t rows, int64_t channels, double* mean, double* squares,       \
                                   int64_t threads) {                                                                  \
        moments<format>(x, rows, channels, mean, squares, threads);                                                    \
    }                                                                                                                  \
    extern "C" void normalise_##name(const void* x, void* y, int64_t rows, int64_t channels,                           \
                                     const format::Sum* scale, const format::Sum* offset, int64_t relu, int64_t threads) {\
        normalise<format>(x, y, rows, channels, scale, offset, relu, threads);                                         \
    }                                                                                                                  \
    extern "C" void gradient_sums_##name(const void* x, const void* grad, int64_t rows, int64_t channels,              \
                                         const format::Sum* scale, const format::Sum* offset,                          \
                                         const format::Sum* mean, int64_t relu, double* of_grad, double* of_product,   \
                                         int64_t threads) {                                                            \
        gradient_sums<format>(x, grad, rows, channels, scale, offset, mean, relu, of_grad, of_product, threads);       \
    }                                                                                                                  \
    extern "C" void normalise_back_##name(const void* x, const void* grad, void* grad_x, int64_t rows,                 \
                                          int64_t channels, const format::Sum* scale, const format::Sum* offset,       \
                                          const format::Sum* from_x, const format::Sum* constant, int64_t relu,        \
                                          int64_t threads) {                                                           \
        normalise_back<format>(x, grad, grad_x, rows, channels, scale, offset, from_x, constant, relu, threads);       \
    }

EXPORT(float32, Format<float>)
EXPORT(float64, Format<double>)
EXPORT(bfloat16, Bfloat16)
