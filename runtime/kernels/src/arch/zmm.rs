//! What the AVX-512 instruction sets have in common: sixteen lanes, bytes multiplied by VNNI.

/// The methods of [`crate::simd::Simd`] on `__m512`, for a token with AVX-512 F, BW, DQ, VL and VNNI.
macro_rules! zmm_methods {
    () => {
        const LANES: usize = 16;
        // 24 accumulators, two weights and a broadcast in 32 registers.
        const INT8_ROWS: usize = 12;
        // An integer and a float accumulator a row.
        const GROUP_ROWS: usize = 12;
        const F32_ROWS: usize = 12;
        const ACTIVATION_OFFSET: i32 = 128;
        const WEIGHT_OFFSET: i32 = 128;

        type F = __m512;
        type I = __m512i;
        type B = __m512i;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            token!(_mm512_set1_ps(x))
        }
        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            token!(_mm512_add_ps(a, b))
        }
        #[inline(always)]
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            token!(_mm512_sub_ps(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            token!(_mm512_mul_ps(a, b))
        }
        #[inline(always)]
        fn div(self, a: __m512, b: __m512) -> __m512 {
            token!(_mm512_div_ps(a, b))
        }
        #[inline(always)]
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            token!(_mm512_fmadd_ps(a, b, c))
        }
        #[inline(always)]
        fn max(self, a: __m512, b: __m512) -> __m512 {
            token!(_mm512_max_ps(a, b))
        }
        #[inline(always)]
        fn min(self, a: __m512, b: __m512) -> __m512 {
            token!(_mm512_min_ps(a, b))
        }
        #[inline(always)]
        fn abs(self, a: __m512) -> __m512 {
            token!(_mm512_abs_ps(a))
        }
        #[inline(always)]
        fn round(self, a: __m512) -> __m512 {
            token!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
        }
        #[inline(always)]
        fn pow2(self, n: __m512) -> __m512 {
            token!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)))))
        }
        #[inline(always)]
        fn sum(self, a: __m512) -> f32 {
            token!(_mm512_reduce_add_ps(a))
        }
        #[inline(always)]
        fn greatest(self, a: __m512) -> f32 {
            token!(_mm512_reduce_max_ps(a))
        }
        #[inline(always)]
        unsafe fn load(self, p: *const f32) -> __m512 {
            memory!(_mm512_loadu_ps(p))
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32, a: __m512) {
            memory!(_mm512_storeu_ps(p, a))
        }
        #[inline(always)]
        unsafe fn load_f16(self, p: *const half::f16) -> __m512 {
            memory!(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast())))
        }
        #[inline(always)]
        unsafe fn load_i8(self, p: *const i8) -> __m512 {
            memory!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))))
        }

        #[inline(always)]
        fn splat_i(self, x: i32) -> __m512i {
            token!(_mm512_set1_epi32(x))
        }
        #[inline(always)]
        fn to_f(self, a: __m512i) -> __m512 {
            token!(_mm512_cvtepi32_ps(a))
        }
        #[inline(always)]
        fn to_i(self, a: __m512) -> __m512i {
            token!(_mm512_cvtps_epi32(a))
        }
        #[inline(always)]
        fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
            token!(_mm512_add_epi32(a, b))
        }
        #[inline(always)]
        fn scale_i(self, a: __m512i, b: i32) -> __m512i {
            token!(_mm512_mullo_epi32(a, _mm512_set1_epi32(b)))
        }
        #[inline(always)]
        unsafe fn load_i(self, p: *const i32) -> __m512i {
            memory!(_mm512_loadu_si512(p.cast()))
        }
        #[inline(always)]
        unsafe fn store_bytes(self, p: *mut u8, a: __m512i) {
            memory!(_mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(a)))
        }

        #[inline(always)]
        unsafe fn load_b(self, p: *const u8) -> __m512i {
            memory!(_mm512_loadu_si512(p.cast()))
        }
        #[inline(always)]
        unsafe fn splat_b(self, p: *const u8) -> __m512i {
            memory!(_mm512_set1_epi32(p.cast::<i32>().read_unaligned()))
        }
        #[inline(always)]
        fn nibbles(self, a: __m512i) -> (__m512i, __m512i) {
            token!({
                let mask = _mm512_set1_epi8(15);
                (_mm512_and_si512(a, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(a), mask))
            })
        }
        #[inline(always)]
        fn dot(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
            token!(_mm512_dpbusd_epi32(acc, a, w))
        }
        #[inline(always)]
        fn dot_grouped(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
            token!(_mm512_dpbusd_epi32(acc, _mm512_xor_si512(w, _mm512_set1_epi8(-128)), a))
        }
        #[inline(always)]
        fn dot_nibbles(self, acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
            token!(_mm512_dpbusd_epi32(acc, w, a))
        }
        #[inline(always)]
        fn call<K: Kernel>(self, kernel: K) -> K::Output {
            self.run(kernel)
        }
        #[inline(always)]
        fn prefetch(self, p: *const u8) {
            token!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
        }
        #[inline(always)]
        fn transpose(self, rows: &mut [__m512; crate::simd::PANEL]) {
            token!({
                // Pairs of rows, then of pairs, within quarters; then the quarters of rows i, i + 4, i + 8 and i + 12.
                let mut a = *rows;
                let mut i = 0;
                while i < 16 {
                    a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                    a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
                    i += 2;
                }
                let mut b = a;
                let mut i = 0;
                while i < 16 {
                    let (p, q, r, s) = (a[i], a[i + 1], a[i + 2], a[i + 3]);
                    b[i] = _mm512_shuffle_ps::<0x44>(p, r);
                    b[i + 1] = _mm512_shuffle_ps::<0xee>(p, r);
                    b[i + 2] = _mm512_shuffle_ps::<0x44>(q, s);
                    b[i + 3] = _mm512_shuffle_ps::<0xee>(q, s);
                    i += 4;
                }
                let mut i = 0;
                while i < 4 {
                    let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(b[i], b[i + 4]), _mm512_shuffle_f32x4::<0xdd>(b[i], b[i + 4]));
                    let (even2, odd2) =
                        (_mm512_shuffle_f32x4::<0x88>(b[i + 8], b[i + 12]), _mm512_shuffle_f32x4::<0xdd>(b[i + 8], b[i + 12]));
                    rows[i] = _mm512_shuffle_f32x4::<0x88>(even, even2);
                    rows[i + 4] = _mm512_shuffle_f32x4::<0x88>(odd, odd2);
                    rows[i + 8] = _mm512_shuffle_f32x4::<0xdd>(even, even2);
                    rows[i + 12] = _mm512_shuffle_f32x4::<0xdd>(odd, odd2);
                    i += 1;
                }
            })
        }
        #[inline(always)]
        unsafe fn load_part(self, p: *const f32, n: usize) -> __m512 {
            memory!(_mm512_maskz_loadu_ps(((1_u32 << n.min(16)) - 1) as u16, p))
        }
        #[inline(always)]
        unsafe fn store_part(self, p: *mut f32, a: __m512, n: usize) {
            memory!(_mm512_mask_storeu_ps(p, ((1_u32 << n.min(16)) - 1) as u16, a))
        }
        #[inline(always)]
        unsafe fn store_quads(self, p: *mut u8, stride: usize, rows: [__m512; 4]) {
            memory!({
                // Packing works within 128-bit lanes, and such a lane of a row is a quad: what comes out are the quads, four rows each.
                let [a, b, c, d] = rows;
                let (a, b, c, d) = (_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b), _mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
                let words = (_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
                let bytes = _mm512_xor_si512(_mm512_packs_epi16(words.0, words.1), _mm512_set1_epi8(-128));
                _mm_storeu_si128(p.cast(), _mm512_castsi512_si128(bytes));
                _mm_storeu_si128(p.add(stride).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                _mm_storeu_si128(p.add(2 * stride).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                _mm_storeu_si128(p.add(3 * stride).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
            })
        }
        #[inline(always)]
        fn magnitude(self, a: __m512, m: __m512) -> __m512 {
            // As whole numbers, magnitudes are in the same order, and what is not finite is the greatest.
            token!(_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(_mm512_abs_ps(a)), _mm512_castps_si512(m))))
        }
        #[inline(always)]
        fn greatest_of_four(self, m: [__m512; 4]) -> [f32; 4] {
            token!({
                let [a, b, c, d] = m;
                let (a, b, c, d) = (_mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(c), _mm512_castps_si512(d));
                let ab = _mm512_max_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let cd = _mm512_max_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                let abcd = _mm512_max_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
                let half = _mm256_max_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
                let quarter = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
                core::mem::transmute::<__m128i, [f32; 4]>(quarter)
            })
        }
    };
}
