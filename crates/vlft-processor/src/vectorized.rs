//! The inner loops of image preprocessing, compiled for the vector instructions that this machine has.
//! They are plain loops over bytes and floats: which instructions they become changes no result.

/// Work that is worth compiling several times. `run` is `#[inline(always)]`, and so is all that it
/// calls: a function that stands alone is compiled for the least of all machines. (A closure instead of
/// a struct would stand alone.)
pub(crate) trait Work {
    fn run(self);
}

/// Does it with AVX-512 or AVX2 where they are; elsewhere with what every machine of its kind has.
pub(crate) fn vectorized(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if let Some(simd) = V4::try_new() {
            return simd.vectorize(Compiled(work));
        }
        if let Some(simd) = V3::try_new() {
            return simd.vectorize(Compiled(work));
        }
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
struct Compiled<W>(W);

#[cfg(target_arch = "x86_64")]
impl<W: Work> pulp::NullaryFnOnce for Compiled<W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.run();
    }
}
