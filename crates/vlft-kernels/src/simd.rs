//! Loops compiled for the widest vectors of the machine, and the few functions they need.
//!
//! The binary runs on any x86-64 (and elsewhere); what the machine can do is looked up when a kernel
//! starts. All reductions go over [`LANES`] partial sums in a fixed order, whatever the vectors are,
//! so results do not depend on the number of threads.

/// Partial sums of a reduction: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// Defines a function whose body is compiled three times: for AVX-512, for AVX2 with FMA, and plain.
macro_rules! vectorised {
    ($(#[$meta:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $visible fn $name($($argument: $type),*) {
            #[inline(always)]
            fn body($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($argument: $type),*) {
                    body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    body($($argument),*)
                }
                if $crate::simd::has_avx512() {
                    // SAFETY: every feature of the function was just found on this machine.
                    return unsafe { avx512($($argument),*) };
                }
                if $crate::simd::has_avx2() {
                    // SAFETY: as above.
                    return unsafe { avx2($($argument),*) };
                }
            }
            body($($argument),*)
        }
    };
}
pub(crate) use vectorised;

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && has_avx2()
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Asks for values to be brought into the cache; a hint, and nothing on other machines.
pub(crate) fn fetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks((64 / size_of::<T>()).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        #[allow(unsafe_code)]
        // SAFETY: it reads nothing that a program could see, and the address is one of the slice.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// `e^x` to about 1e-7 relative, from [-87, 88] (beyond, the value at the border); NaN stays NaN.
///
/// Cephes' expf: `x = n ln 2 + r`, a polynomial for `e^r`, and n goes into the exponent. The n is
/// found by adding 1.5 * 2^23, which leaves it in the low bits of the sum.
#[inline(always)]
#[allow(clippy::excessive_precision)] // The constants as they were published.
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_375 - n * -2.121_944_40e-4;
    let mut p = 1.987_569_150_0e-4;
    for coefficient in [
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        5.000_000_120_1e-1,
    ] {
        p = p * r + coefficient;
    }
    let power = p * (r * r) + r + 1.0;
    power * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function to about 5e-7: the rational function of Eigen, on [-4, 4].
#[inline(always)]
#[allow(clippy::excessive_precision)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut above = -2.726_142_258_013_06e-10;
    for coefficient in [
        2.770_681_424_959_02e-08,
        -2.101_024_020_825_08e-06,
        -5.692_506_394_623_46e-05,
        -7.349_906_303_268_55e-04,
        -2.954_599_808_540_25e-03,
        -1.609_603_332_624_15e-02,
    ] {
        above = above * square + coefficient;
    }
    let mut below = -1.456_607_184_649_96e-05;
    for coefficient in [
        -2.133_740_552_789_05e-04,
        -1.682_826_974_382_03e-03,
        -7.373_329_167_204_68e-03,
        -1.426_473_905_141_89e-02,
    ] {
        below = below * square + coefficient;
    }
    x * above / below
}

/// Sum of `f(a, b)` over two slices of the same length.
#[inline(always)]
pub(crate) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f(*a, *b);
    }
    add_lanes(lanes)
}

/// Sum of `f(x)` over a slice.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum2(x, x, |x, _| f(x))
}

/// The largest value, minus infinity of none. A NaN may be passed over.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, *x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// Adds halves onto each other, always the same way.
#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_few_ulp_and_keeps_nan() {
        for i in -86_900..=87_900 {
            let x = i as f32 * 1e-3;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "exp({x}) is off by {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1e-37 && exp(1e30) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn erf_agrees_with_its_integral() {
        // Simpson's rule in f64, 2 / sqrt(pi) * integral of e^(-t^2).
        let integral = |x: f64| {
            let steps = 400;
            let h = x / f64::from(steps);
            let f = |t: f64| (-t * t).exp();
            let inner: f64 = (1..steps)
                .map(|i| f(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 })
                .sum();
            (f(0.0) + inner + f(x)) * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
        };
        for i in -500..=500 {
            let x = i as f32 * 0.01;
            let error = (f64::from(erf(x)) - integral(f64::from(x))).abs();
            assert!(error < 5e-7, "erf({x}) is off by {error}");
        }
    }

    #[test]
    fn sums_and_maxima_of_odd_lengths() {
        for length in [0usize, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (1..=length).map(|i| i as f32).collect();
            let expected = (length * (length + 1) / 2) as f32;
            assert_eq!(sum(&x, |x| x), expected);
            assert_eq!(sum2(&x, &x, |a, b| a + b), 2.0 * expected);
            if length > 0 {
                assert_eq!(max(&x), length as f32);
            }
        }
    }
}
