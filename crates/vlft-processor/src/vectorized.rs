//! The inner loops of image preprocessing, compiled for the vector instructions that this machine has.
//! They are plain loops over bytes and floats; which instructions they become changes no result.

/// Runs `work` as compiled for AVX2 or AVX-512 where the machine has them. What `work` calls takes part
/// only if it is `#[inline(always)]`, and so is the closure itself.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if let Some(simd) = V4::try_new() {
            return simd.vectorize(work);
        }
        if let Some(simd) = V3::try_new() {
            return simd.vectorize(work);
        }
    }
    // Elsewhere the vector instructions that every machine has are what is compiled for.
    work()
}
