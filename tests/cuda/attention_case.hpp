// One call of the three attention kernels: inputs, the plan, and the same in double precision by
// definition, with a bound on the error of each element.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "emulate.hpp"

#include "attention.cu"

struct Case {
    std::string name;
    int hq, hkv;
    bool causal;
    std::vector<int> segments;
    enum Values { Ordinary, LargeLogits, EqualKeys } values = Ordinary;
    // q, k and v (and their gradients) are columns of one wide matrix; else each has its own.
    bool wide = false;
};

inline float to_float(bf16 x) { return emu::bf16_value(x.bits); }
inline float to_float(float x) { return x; }
inline void from_float(bf16& to, float x) { to.bits = emu::bf16_bits(x); }
inline void from_float(float& to, float x) { to = x; }

// A matrix [rows, columns] within rows of `stride` elements, 16-byte aligned and exactly as long as it has
// to be, so that the address sanitizer sees one element too many.
template <class T>
struct Matrix {
    int rows = 0, columns = 0, stride = 0;
    T* data = nullptr;
    std::shared_ptr<T> memory;
    static Matrix make(int rows, int columns) {
        Matrix m{rows, columns, columns, nullptr, {}};
        std::size_t bytes = std::max<std::size_t>(std::size_t(rows) * columns, 1) * sizeof(T);
        void* p = nullptr;
        if (posix_memalign(&p, 16, bytes)) std::abort();
        std::memset(p, 0xff, bytes);  // NaN
        m.memory = std::shared_ptr<T>(static_cast<T*>(p), std::free);
        m.data = m.memory.get();
        return m;
    }
    Matrix part(int first, int count) const {
        Matrix m = *this;
        m.data += first, m.columns = count;
        return m;
    }
    T& at(int r, int c) const { return data[std::size_t(r) * stride + c]; }
    float get(int r, int c) const { return to_float(at(r, c)); }
};

// As `Plan::new` in crates/vlft-kernels/src/attention/cuda/plan.rs.
struct HostPlan {
    std::vector<int> words;
    unsigned tiles = 0;
};
inline HostPlan make_plan(const Case& c, int d, int tile_rows, const std::vector<int>& strides) {
    struct Item {
        int start, end, first;
    };
    std::vector<Item> items;
    int rows = 0;
    for (int tokens : c.segments) {
        for (int first = 0; first < tokens; first += tile_rows) items.push_back({rows, rows + tokens, rows + first});
        rows += tokens;
    }
    HostPlan plan;
    plan.tiles = unsigned(items.size());
    plan.words = {rows, c.hq / c.hkv, c.causal, std::bit_cast<int>(float(1.0 / std::sqrt(double(d))))};
    plan.words.insert(plan.words.end(), strides.begin(), strides.end());
    plan.words.resize(16);
    for (int list = 0; list < 2; ++list) {
        auto work = [&](const Item& i) {
            if (!c.causal) return i.end - i.start;
            return list == 0 ? std::min(i.end, i.first + tile_rows) - i.start : i.end - i.first;
        };
        auto sorted = items;
        std::stable_sort(sorted.begin(), sorted.end(), [&](auto& a, auto& b) { return work(a) > work(b); });
        for (auto& i : sorted) plan.words.insert(plan.words.end(), {i.start, i.end, i.first, 0});
    }
    return plan;
}

struct Worst {
    double ratio = 0;  // error by bound
    std::string where;
};

// What the kernels gave, or should have given.
struct Exact {
    std::vector<double> value, bound;
    int columns;
    Exact(int rows, int columns)
        : value(std::size_t(rows) * columns), bound(std::size_t(rows) * columns), columns(columns) {}
    double& v(int r, int c) { return value[std::size_t(r) * columns + c]; }
    double& b(int r, int c) { return bound[std::size_t(r) * columns + c]; }
    // Adds the rounding of the result itself.
    void finish(double unit) {
        for (std::size_t i = 0; i < value.size(); ++i) bound[i] += unit * std::fabs(value[i]) + 1e-30;
    }
    template <class T>
    Worst compare(const Matrix<T>& got, const char* name) {
        Worst worst;
        for (int r = 0; r < got.rows; ++r)
            for (int c = 0; c < got.columns; ++c) {
                double ratio = std::fabs(got.get(r, c) - v(r, c)) / b(r, c);
                if (!(ratio <= worst.ratio)) {
                    worst.ratio = ratio == ratio ? ratio : INFINITY;
                    char text[160];
                    std::snprintf(text, sizeof text, "%s[%d, %d]: expected %.9g +- %.3g, found %.9g", name, r, c,
                                  v(r, c), b(r, c), got.get(r, c));
                    worst.where = text;
                }
            }
        return worst;
    }
};

// Errors that are allowed, and why. `unit` is half the distance of neighbours of T near 1 (2^-8 for bf16,
// 2^-24 for f32): each result is rounded once; P and dS are rounded to T before they are multiplied (bf16
// only, `small`); delta is computed from the rounded O. Everything else is f32: sums of up to a few
// hundred products (`sum`, relative to the sum of magnitudes), and a score's error moves its exponential.
struct Tolerance {
    double unit, small, sum;
};
inline Tolerance tolerance(bf16) { return {0x1p-8, 0x1p-8, 0x1p-19}; }
inline Tolerance tolerance(float) { return {0x1p-24, 0, 0x1p-19}; }

struct Expected {
    Exact o, lse, d_q, d_k, d_v;
};

template <class T>
Expected reference(const Case& c, int d, const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v,
                   const Matrix<T>& d_o) {
    int rows = q.rows, group = c.hq / c.hkv;
    Tolerance tol = tolerance(T{});
    double scale = 1 / std::sqrt(double(d));
    Expected e{Exact(rows, c.hq * d), Exact(c.hq, rows), Exact(rows, c.hq * d), Exact(rows, c.hkv * d),
               Exact(rows, c.hkv * d)};
    int start = 0;
    for (int tokens : c.segments) {
        for (int h = 0; h < c.hq; ++h) {
            int hk = h / group;
            for (int i = start; i < start + tokens; ++i) {
                int keys = c.causal ? i - start + 1 : tokens;
                std::vector<double> s(keys), size(keys), p(keys), d_p(keys), d_p_size(keys);
                double top = -INFINITY, size_top = 0;
                for (int j = 0; j < keys; ++j) {
                    for (int x = 0; x < d; ++x) {
                        double term = double(q.get(i, h * d + x)) * k.get(start + j, hk * d + x);
                        s[j] += term, size[j] += std::fabs(term);
                        double other = double(d_o.get(i, h * d + x)) * v.get(start + j, hk * d + x);
                        d_p[j] += other, d_p_size[j] += std::fabs(other);
                    }
                    s[j] *= scale, size[j] *= scale;
                    top = std::max(top, s[j]), size_top = std::max(size_top, size[j]);
                }
                double sum = 0;
                for (int j = 0; j < keys; ++j) sum += p[j] = std::exp(s[j] - top);
                e.lse.v(h, i) = top + std::log(sum);
                // Of a probability, relative: of its score, of the row's maximum and sum.
                double off = tol.sum * (1 + 2 * size_top);
                e.lse.b(h, i) = off;
                double delta = 0, delta_off = 0;
                for (int j = 0; j < keys; ++j) p[j] /= sum, delta += p[j] * d_p[j];
                for (int x = 0; x < d; ++x) {
                    double o = 0, o_size = 0;
                    for (int j = 0; j < keys; ++j) {
                        double vx = v.get(start + j, hk * d + x);
                        o += p[j] * vx, o_size += p[j] * std::fabs(vx);
                    }
                    e.o.v(i, h * d + x) = o;
                    double bound = (tol.small + off) * o_size;
                    e.o.b(i, h * d + x) = bound;
                    double g = std::fabs(d_o.get(i, h * d + x));
                    delta_off += g * (bound + tol.unit * std::fabs(o) + tol.sum * o_size);
                }
                for (int j = 0; j < keys; ++j) {
                    double d_s = p[j] * (d_p[j] - delta);
                    double d_s_off = p[j] * (delta_off + tol.sum * d_p_size[j]) + (tol.small + off) * std::fabs(d_s);
                    for (int x = 0; x < d; ++x) {
                        double kx = k.get(start + j, hk * d + x), qx = q.get(i, h * d + x);
                        double gx = d_o.get(i, h * d + x);
                        e.d_q.v(i, h * d + x) += scale * d_s * kx;
                        e.d_q.b(i, h * d + x) += scale * (d_s_off + tol.sum * std::fabs(d_s)) * std::fabs(kx);
                        e.d_k.v(start + j, hk * d + x) += scale * d_s * qx;
                        e.d_k.b(start + j, hk * d + x) += scale * (d_s_off + tol.sum * std::fabs(d_s)) * std::fabs(qx);
                        e.d_v.v(start + j, hk * d + x) += p[j] * gx;
                        e.d_v.b(start + j, hk * d + x) += (tol.small + off + tol.sum) * p[j] * std::fabs(gx);
                    }
                }
            }
        }
        start += tokens;
    }
    e.o.finish(tol.unit * 1.01), e.d_q.finish(tol.unit * 1.01);
    e.d_k.finish(tol.unit * 1.01), e.d_v.finish(tol.unit * 1.01);
    return e;
}
