// The attention kernels, run thread by thread on the CPU, against the definition in double precision.
#define VLFT_EMULATE
#include <chrono>
#include <cstdio>

#include "emulate.hpp"

// attention.cu wants one pair; all others are called through the templates below it.
#define ELEMENT bf16
#define HEAD_DIM 128
#include "attention_case.hpp"

static int failures = 0;

template <class T>
static void fill(const Matrix<T>& m, std::mt19937& random, float amplitude) {
    std::normal_distribution<float> normal(0, amplitude);
    for (int r = 0; r < m.rows; ++r)
        for (int c = 0; c < m.columns; ++c) from_float(m.at(r, c), normal(random));
}

template <class T, int D>
struct Run {
    Case c;
    int rows = 0;
    Matrix<T> q, k, v, o, d_o, d_q, d_k, d_v;
    Matrix<float> lse, delta;
    HostPlan plan;

    Run(const Case& c, unsigned seed) : c(c) {
        for (int tokens : c.segments) rows += tokens;
        int wq = c.hq * D, wk = c.hkv * D, all = wq + 2 * wk;
        auto three = [&](Matrix<T>& a, Matrix<T>& b, Matrix<T>& x) {
            auto wide = Matrix<T>::make(rows, all);
            a = c.wide ? wide.part(0, wq) : Matrix<T>::make(rows, wq);
            b = c.wide ? wide.part(wq, wk) : Matrix<T>::make(rows, wk);
            x = c.wide ? wide.part(wq + wk, wk) : Matrix<T>::make(rows, wk);
        };
        three(q, k, v);
        three(d_q, d_k, d_v);
        o = Matrix<T>::make(rows, wq);
        d_o = c.wide ? Matrix<T>::make(rows, wq + 8 * 16 / sizeof(T)).part(16 / sizeof(T), wq) : Matrix<T>::make(rows, wq);
        lse = Matrix<float>::make(c.hq, rows), delta = Matrix<float>::make(c.hq, rows);
        std::mt19937 random(seed);
        float amplitude = c.values == Case::LargeLogits ? 30 : 1;
        fill(q, random, amplitude), fill(k, random, amplitude), fill(v, random, 1), fill(d_o, random, 1);
        if (c.values == Case::EqualKeys)
            for (int r = 1; r < rows; ++r)
                for (int x = 0; x < wk; ++x) k.at(r, x) = k.at(0, x);
        plan = make_plan(c, D, Shape<T, D>::ROWS, {q.stride, k.stride, v.stride, o.stride, d_o.stride, d_q.stride, d_k.stride});
    }

    void launch() {
        typedef Shape<T, D> S;
        unsigned hq = unsigned(c.hq), hkv = unsigned(c.hkv);
        const int* words = plan.words.data();
        emu::launch({hq, plan.tiles}, {unsigned(S::THREADS)}, 0, [&] {
            attention_forward<T, D>(q.data, k.data, v.data, o.data, lse.data, words);
        });
        emu::launch({hq, plan.tiles}, {unsigned(S::THREADS)}, 0, [&] {
            attention_backward_query<T, D>(q.data, k.data, v.data, o.data, d_o.data, lse.data, d_q.data, delta.data, words);
        });
        emu::launch({hkv, plan.tiles}, {unsigned(S::THREADS)}, 0, [&] {
            attention_backward_key<T, D>(q.data, k.data, v.data, d_o.data, lse.data, delta.data, d_k.data, d_v.data, words);
        });
    }
};

static void report(const char* type, int d, const Case& c, unsigned seed, const std::vector<Worst>& worst, double seconds) {
    std::printf("%-5s d%-4d %-44s", type, d, c.name.c_str());
    bool ok = true;
    for (auto& w : worst) std::printf(" %5.2f", w.ratio), ok &= w.ratio <= 1;
    std::printf("  %5.1f s%s\n", seconds, ok ? "" : "  FAILED");
    for (auto& w : worst)
        if (!(w.ratio <= 1)) std::printf("    %s (seed %u)\n", w.where.c_str(), seed);
    std::fflush(stdout);
    failures += !ok;
}

template <class T, int D>
static void test(const Case& c, unsigned seed) {
    auto begin = std::chrono::steady_clock::now();
    emu::options.seed = seed;
    Run<T, D> run(c, seed);
    std::vector<Worst> worst;
    try {
        run.launch();
        auto e = reference(c, D, run.q, run.k, run.v, run.d_o);
        Matrix<float> lse = Matrix<float>::make(c.hq, run.rows);  // from base 2
        for (int h = 0; h < c.hq; ++h)
            for (int r = 0; r < run.rows; ++r) lse.at(h, r) = run.lse.at(h, r) * 0.69314718056f;
        worst = {e.o.compare(run.o, "O"), e.lse.compare(lse, "LSE"), e.d_q.compare(run.d_q, "dQ"),
                 e.d_k.compare(run.d_k, "dK"), e.d_v.compare(run.d_v, "dV")};
    } catch (const emu::Failure& failure) {
        worst = {{INFINITY, failure.what()}};
    }
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    report(sizeof(T) == 2 ? "bf16" : "f32", D, c, seed, worst, seconds.count());
}

// The same inputs, threads in another order: not one bit may differ.
template <class T, int D>
static void same_bits(const Case& c, unsigned seed) {
    emu::options.seed = seed;
    Run<T, D> a(c, seed), b(c, seed);
    a.launch();
    emu::options.seed = seed + 1;
    b.launch();
    auto equal = [&](const Matrix<T>& x, const Matrix<T>& y) {
        for (int r = 0; r < x.rows; ++r)
            if (std::memcmp(&x.at(r, 0), &y.at(r, 0), x.columns * sizeof(T))) return false;
        return true;
    };
    bool ok = equal(a.o, b.o) && equal(a.d_q, b.d_q) && equal(a.d_k, b.d_k) && equal(a.d_v, b.d_v);
    std::printf("%-5s d%-4d %-44s%s\n", sizeof(T) == 2 ? "bf16" : "f32", D, "the same bits in another order", ok ? " ok" : " FAILED");
    failures += !ok;
}

template <class T, int D>
static void conflicts(const char* type) {
    emu::counters = {};
    Run<T, D> run({"", 2, 1, true, {130}}, 1);
    run.launch();
    auto& n = emu::counters;
    std::printf("%-5s d%-4d shared memory %5zu bytes; %llu of %llu turns are bank conflicts\n", type, D, n.static_shared,
                n.shared_conflicts, n.shared_turns);
    if (sizeof(T) == 2 && n.shared_conflicts) failures += 1, std::printf("    FAILED: bank conflicts\n");
}

int main() {
    unsigned seed = std::random_device{}();
    if (const char* given = std::getenv("SEED")) seed = unsigned(std::atol(given));
    std::printf("seed %u; columns: largest error by its bound of O, LSE, dQ, dK, dV\n", seed);

    const int t = 64;
    Case borders{"causal 4/1, lengths 1, t-1, t, t+1, 0, 2t", 4, 1, true, {1, t - 1, t, t + 1, 0, 2 * t}};
    Case images{"full 2/2, images of 100, 1, 64, 70 patches", 2, 2, false, {100, 1, 64, 70}};
    Case wide{"causal 4/2, columns of one matrix", 4, 2, true, {33, 70}};
    Case wide_full{"full 4/4, columns of one matrix", 4, 4, false, {33, 70}};
    wide.wide = wide_full.wide = true;
    Case large{"full 2/1, logits of some thousands", 2, 1, false, {90}, Case::LargeLogits};
    Case large_causal{"causal 2/1, logits of some thousands", 2, 1, true, {90}, Case::LargeLogits};
    Case equal{"causal 2/1, all keys equal", 2, 1, true, {150}, Case::EqualKeys};
#ifdef QUICK  // for the address sanitizer, which takes its time
    (void)large, (void)large_causal, (void)equal, (void)wide_full;
    test<bf16, 128>(wide, seed);
    test<bf16, 72>(images, seed);
    test<float, 72>(wide, seed);
    test<bf16, 8>(borders, seed);
#else
    test<bf16, 128>({"causal 32/8, lengths 65, 1, 40", 32, 8, true, {65, 1, 40}}, seed);
    for (auto& c : {borders, wide, large, large_causal, equal, images}) test<bf16, 128>(c, seed);
    for (auto& c : {images, wide, wide_full, borders, large, equal}) test<bf16, 72>(c, seed);
    // As in attention/mod.rs.
    for (auto& c : {Case{"full 4/4", 4, 4, false, {7}}, Case{"causal 4/2", 4, 2, true, {7, 1, 12}},
                    Case{"causal 6/1", 6, 1, true, {9, 0, 9}}, Case{"causal 2/1", 2, 1, true, {250}},
                    Case{"full 2/2", 2, 2, false, {130, 70}}, borders, wide}) {
        test<bf16, 8>(c, seed);
        test<bf16, 16>(c, seed);
        test<bf16, 32>(c, seed);
        test<bf16, 64>(c, seed);
        test<float, 8>(c, seed);
    }
    Case small{"causal 2/1, lengths 1, 31, 33, 0, 20", 2, 1, true, {1, 31, 33, 0, 20}};
    for (auto& c : {small, wide, large, equal}) {
        test<float, 128>(c, seed);
        test<float, 72>(c, seed);
    }
    test<float, 16>(small, seed), test<float, 32>(small, seed), test<float, 64>(small, seed);
    same_bits<bf16, 128>({"", 4, 2, true, {65, 70}}, seed);
    same_bits<bf16, 72>({"", 2, 2, false, {65, 70}}, seed);
    conflicts<bf16, 128>("bf16"), conflicts<bf16, 72>("bf16"), conflicts<bf16, 64>("bf16");
    conflicts<bf16, 32>("bf16"), conflicts<bf16, 16>("bf16"), conflicts<bf16, 8>("bf16");
    conflicts<float, 128>("f32"), conflicts<float, 72>("f32");
#endif
    if (failures) std::printf("%d FAILED (SEED=%u)\n", failures, seed);
    return failures != 0;
}
