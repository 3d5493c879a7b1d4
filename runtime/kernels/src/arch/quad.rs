//! What the three NEON instruction sets have in common: four lanes. Each says how it multiplies bytes, and takes the rest from here.

/// The methods of [`crate::simd::Simd`] on `float32x4_t`, for a token with NEON.
macro_rules! quad_methods {
    () => {
        const LANES: usize = 4;
        const ACTIVATION_OFFSET: i32 = 0;
        const WEIGHT_OFFSET: i32 = 0;
        // 24 accumulators, four weights and the row's element in 32 registers.
        const F32_ROWS: usize = 6;

        type F = float32x4_t;
        type I = int32x4_t;
        type B = int8x16_t;

        #[inline(always)]
        fn splat(self, x: f32) -> float32x4_t {
            token!(vdupq_n_f32(x))
        }
        #[inline(always)]
        fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            token!(vaddq_f32(a, b))
        }
        #[inline(always)]
        fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            token!(vsubq_f32(a, b))
        }
        #[inline(always)]
        fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            token!(vmulq_f32(a, b))
        }
        #[inline(always)]
        fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            token!(vdivq_f32(a, b))
        }
        #[inline(always)]
        fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            token!(vfmaq_f32(c, a, b))
        }
        // `fmax` gives no number where either is none, `fmaxnm` the other one: neither gives `b`.
        #[inline(always)]
        fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            token!(vbslq_f32(vcgtq_f32(a, b), a, b))
        }
        #[inline(always)]
        fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            token!(vbslq_f32(vcltq_f32(a, b), a, b))
        }
        #[inline(always)]
        fn abs(self, a: float32x4_t) -> float32x4_t {
            token!(vabsq_f32(a))
        }
        #[inline(always)]
        fn round(self, a: float32x4_t) -> float32x4_t {
            token!(vrndnq_f32(a))
        }
        #[inline(always)]
        fn pow2(self, n: float32x4_t) -> float32x4_t {
            token!(vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)))))
        }
        #[inline(always)]
        fn sum(self, a: float32x4_t) -> f32 {
            token!(vaddvq_f32(a))
        }
        #[inline(always)]
        fn greatest(self, a: float32x4_t) -> f32 {
            token!(vmaxvq_f32(a))
        }
        #[inline(always)]
        unsafe fn load(self, p: *const f32) -> float32x4_t {
            memory!(vld1q_f32(p))
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32, a: float32x4_t) {
            memory!(vst1q_f32(p, a))
        }
        #[inline(always)]
        unsafe fn load_f16(self, p: *const half::f16) -> float32x4_t {
            memory!($crate::arch::neon::fcvtl(vld1_u16(p.cast())))
        }
        #[inline(always)]
        unsafe fn load_i8(self, p: *const i8) -> float32x4_t {
            memory!({
                let bytes = vreinterpret_s8_u32(vdup_n_u32(p.cast::<u32>().read_unaligned()));
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
            })
        }

        #[inline(always)]
        fn splat_i(self, x: i32) -> int32x4_t {
            token!(vdupq_n_s32(x))
        }
        #[inline(always)]
        fn to_f(self, a: int32x4_t) -> float32x4_t {
            token!(vcvtq_f32_s32(a))
        }
        #[inline(always)]
        fn to_i(self, a: float32x4_t) -> int32x4_t {
            token!(vcvtnq_s32_f32(a))
        }
        #[inline(always)]
        fn add_i(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            token!(vaddq_s32(a, b))
        }
        #[inline(always)]
        fn scale_i(self, a: int32x4_t, b: i32) -> int32x4_t {
            token!(vmulq_n_s32(a, b))
        }
        #[inline(always)]
        unsafe fn load_i(self, p: *const i32) -> int32x4_t {
            memory!(vld1q_s32(p))
        }
        #[inline(always)]
        unsafe fn store_bytes(self, p: *mut u8, a: int32x4_t) {
            memory!({
                let halves = vmovn_s32(a);
                let bytes = vmovn_s16(vcombine_s16(halves, halves));
                p.cast::<u32>().write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_s8(bytes)))
            })
        }

        #[inline(always)]
        unsafe fn load_b(self, p: *const u8) -> int8x16_t {
            memory!(vld1q_s8(p.cast()))
        }
        #[inline(always)]
        unsafe fn splat_b(self, p: *const u8) -> int8x16_t {
            memory!(vreinterpretq_s8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())))
        }
        #[inline(always)]
        fn nibbles(self, a: int8x16_t) -> (int8x16_t, int8x16_t) {
            token!({
                let high = vshrq_n_u8::<4>(vreinterpretq_u8_s8(a));
                (vandq_s8(a, vdupq_n_s8(15)), vreinterpretq_s8_u8(high))
            })
        }
        // Signed by signed throughout: one product serves all.
        #[inline(always)]
        fn dot_grouped(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
            self.dot(acc, w, a)
        }
        #[inline(always)]
        fn dot_nibbles(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
            self.dot(acc, w, a)
        }
        #[inline(always)]
        fn call<K: Kernel>(self, kernel: K) -> K::Output {
            self.run(kernel)
        }
        #[inline(always)]
        fn prefetch(self, p: *const u8) {
            // SAFETY: a hint; any address will do.
            unsafe { core::arch::asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags)) }
        }
    };
}
