//! No instruction set at all: arrays, which the compiler makes of what the target's baseline has. Runs everywhere, Miri included.

use crate::simd::Simd;

const LANES: usize = 4;

/// The token; needs no proof.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

/// Applies `$body` to lane `$i`.
macro_rules! lanes {
    ($i:ident => $body:expr) => {{
        let mut out = [Default::default(); LANES];
        let mut $i = 0;
        while $i < LANES {
            out[$i] = $body;
            $i += 1;
        }
        out
    }};
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const INT8_ROWS: usize = 2;
    const GROUP_ROWS: usize = 2;
    const F32_ROWS: usize = 3;
    const ACTIVATION_OFFSET: i32 = 0;
    const WEIGHT_OFFSET: i32 = 0;

    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [[u8; 4]; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        lanes!(i => a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        lanes!(i => a[i].abs())
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // From 2²³ on numbers are whole: adding it leaves no bits after the point.
        const WHOLE: f32 = 8_388_608.0;
        let rounded = |a: f32| ((a.abs() + WHOLE) - WHOLE).copysign(a);
        lanes!(i => if a[i].abs() < WHOLE { rounded(a[i]) } else { a[i] })
    }
    #[inline(always)]
    fn pow2(self, n: Self::F) -> Self::F {
        lanes!(i => f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn greatest(self, a: Self::F) -> f32 {
        let (b, c) = (if a[0] > a[2] { a[0] } else { a[2] }, if a[1] > a[3] { a[1] } else { a[3] });
        if b > c { b } else { c }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller's; floats are read unaligned.
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: Self::F) {
        // SAFETY: the caller's.
        unsafe { p.cast::<Self::F>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const half::f16) -> Self::F {
        // SAFETY: the caller's.
        let a = unsafe { p.cast::<[half::f16; LANES]>().read_unaligned() };
        lanes!(i => a[i].to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Self::F {
        // SAFETY: the caller's.
        let a = unsafe { p.cast::<[i8; LANES]>().read_unaligned() };
        lanes!(i => f32::from(a[i]))
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        lanes!(i => a[i] as f32)
    }
    #[inline(always)]
    fn to_i(self, a: Self::F) -> Self::I {
        let a = self.round(a);
        lanes!(i => a[i] as i32)
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes!(i => a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn scale_i(self, a: Self::I, b: i32) -> Self::I {
        lanes!(i => a[i].wrapping_mul(b))
    }
    #[inline(always)]
    unsafe fn load_i(self, p: *const i32) -> Self::I {
        // SAFETY: the caller's.
        unsafe { p.cast::<Self::I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, a: Self::I) {
        let bytes = [a[0] as u8, a[1] as u8, a[2] as u8, a[3] as u8];
        // SAFETY: the caller's.
        unsafe { p.cast::<[u8; LANES]>().write_unaligned(bytes) }
    }

    #[inline(always)]
    unsafe fn load_b(self, p: *const u8) -> Self::B {
        // SAFETY: the caller's.
        unsafe { p.cast::<Self::B>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn splat_b(self, p: *const u8) -> Self::B {
        // SAFETY: the caller's.
        [unsafe { p.cast::<[u8; 4]>().read_unaligned() }; LANES]
    }
    #[inline(always)]
    fn nibbles(self, a: Self::B) -> (Self::B, Self::B) {
        let low = lanes!(i => a[i].map(|byte| byte & 15));
        let high = lanes!(i => a[i].map(|byte| byte >> 4));
        (low, high)
    }
    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I {
        lanes!(i => {
            let (w, a) = (w[i].map(|x| i32::from(x as i8)), a[i].map(|x| i32::from(x as i8)));
            acc[i].wrapping_add(w[0] * a[0] + w[1] * a[1] + w[2] * a[2] + w[3] * a[3])
        })
    }
    #[inline(always)]
    fn dot_grouped(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I {
        self.dot(acc, w, a)
    }
    #[inline(always)]
    fn dot_nibbles(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I {
        self.dot(acc, w, a)
    }
    #[inline(never)]
    fn call<K: crate::simd::Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn prefetch(self, _p: *const u8) {}
}
