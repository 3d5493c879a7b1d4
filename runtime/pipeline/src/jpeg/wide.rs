//! The same loops compiled for AVX2, where the CPU has it: the compiler makes vectors of them.

/// Runs `work`, all of which must be inlined into it.
#[inline(always)]
pub fn wide<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(token, Call(work));
    }
    work()
}

#[cfg(target_arch = "x86_64")]
struct Call<F>(F);

#[cfg(target_arch = "x86_64")]
impl<T, F: FnOnce() -> T> pulp::NullaryFnOnce for Call<F> {
    type Output = T;

    #[inline(always)]
    fn call(self) -> T {
        (self.0)()
    }
}
