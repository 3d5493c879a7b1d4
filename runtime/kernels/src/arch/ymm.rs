//! What AVX2 and AVX-VNNI have in common: eight lanes. Both say how they multiply bytes, and take the rest from here.

/// The methods of [`crate::simd::Simd`] on `__m256`, for a token with AVX2, FMA and F16C.
macro_rules! ymm_methods {
    () => {
        const LANES: usize = 8;
        const F32_ROWS: usize = 6;

        type F = __m256;
        type I = __m256i;
        type B = __m256i;

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            token!(_mm256_set1_ps(x))
        }
        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            token!(_mm256_add_ps(a, b))
        }
        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            token!(_mm256_sub_ps(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            token!(_mm256_mul_ps(a, b))
        }
        #[inline(always)]
        fn div(self, a: __m256, b: __m256) -> __m256 {
            token!(_mm256_div_ps(a, b))
        }
        #[inline(always)]
        fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            token!(_mm256_fmadd_ps(a, b, c))
        }
        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            token!(_mm256_max_ps(a, b))
        }
        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            token!(_mm256_min_ps(a, b))
        }
        #[inline(always)]
        fn abs(self, a: __m256) -> __m256 {
            token!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
        }
        #[inline(always)]
        fn round(self, a: __m256) -> __m256 {
            token!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
        }
        #[inline(always)]
        fn pow2(self, n: __m256) -> __m256 {
            token!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)))))
        }
        #[inline(always)]
        fn sum(self, a: __m256) -> f32 {
            token!({
                let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
            })
        }
        #[inline(always)]
        fn greatest(self, a: __m256) -> f32 {
            token!({
                let x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
            })
        }
        #[inline(always)]
        unsafe fn load(self, p: *const f32) -> __m256 {
            memory!(_mm256_loadu_ps(p))
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32, a: __m256) {
            memory!(_mm256_storeu_ps(p, a))
        }
        #[inline(always)]
        unsafe fn load_f16(self, p: *const half::f16) -> __m256 {
            memory!(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
        }
        #[inline(always)]
        unsafe fn load_i8(self, p: *const i8) -> __m256 {
            memory!(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))))
        }

        #[inline(always)]
        fn splat_i(self, x: i32) -> __m256i {
            token!(_mm256_set1_epi32(x))
        }
        #[inline(always)]
        fn to_f(self, a: __m256i) -> __m256 {
            token!(_mm256_cvtepi32_ps(a))
        }
        #[inline(always)]
        fn to_i(self, a: __m256) -> __m256i {
            token!(_mm256_cvtps_epi32(a))
        }
        #[inline(always)]
        fn add_i(self, a: __m256i, b: __m256i) -> __m256i {
            token!(_mm256_add_epi32(a, b))
        }
        #[inline(always)]
        fn scale_i(self, a: __m256i, b: i32) -> __m256i {
            token!(_mm256_mullo_epi32(a, _mm256_set1_epi32(b)))
        }
        #[inline(always)]
        unsafe fn load_i(self, p: *const i32) -> __m256i {
            memory!(_mm256_loadu_si256(p.cast()))
        }
        #[inline(always)]
        unsafe fn store_bytes(self, p: *mut u8, a: __m256i) {
            memory!({
                // The low bytes of each half's four lanes side by side, then those of both halves.
                let low = _mm256_setr_epi8(
                    0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, //
                    0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                );
                let a = _mm256_shuffle_epi8(a, low);
                let pair = _mm_unpacklo_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
                _mm_storel_epi64(p.cast(), pair)
            })
        }

        #[inline(always)]
        unsafe fn load_b(self, p: *const u8) -> __m256i {
            memory!(_mm256_loadu_si256(p.cast()))
        }
        #[inline(always)]
        unsafe fn splat_b(self, p: *const u8) -> __m256i {
            memory!(_mm256_set1_epi32(p.cast::<i32>().read_unaligned()))
        }
        #[inline(always)]
        fn nibbles(self, a: __m256i) -> (__m256i, __m256i) {
            token!({
                let mask = _mm256_set1_epi8(15);
                (_mm256_and_si256(a, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(a), mask))
            })
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
        fn transpose(self, rows: &mut [__m256; crate::simd::PANEL]) {
            token!({
                // Pairs of rows, then of pairs, then of halves.
                let mut a = *rows;
                let mut i = 0;
                while i < 8 {
                    a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
                    a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
                    i += 2;
                }
                let mut b = a;
                let mut i = 0;
                while i < 8 {
                    let (p, q, r, s) = (a[i], a[i + 1], a[i + 2], a[i + 3]);
                    b[i] = _mm256_shuffle_ps::<0x44>(p, r);
                    b[i + 1] = _mm256_shuffle_ps::<0xee>(p, r);
                    b[i + 2] = _mm256_shuffle_ps::<0x44>(q, s);
                    b[i + 3] = _mm256_shuffle_ps::<0xee>(q, s);
                    i += 4;
                }
                let mut i = 0;
                while i < 4 {
                    rows[i] = _mm256_permute2f128_ps::<0x20>(b[i], b[i + 4]);
                    rows[i + 4] = _mm256_permute2f128_ps::<0x31>(b[i], b[i + 4]);
                    i += 1;
                }
            })
        }
        #[inline(always)]
        unsafe fn load_part(self, p: *const f32, n: usize) -> __m256 {
            memory!(_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))))
        }
        #[inline(always)]
        unsafe fn store_part(self, p: *mut f32, a: __m256, n: usize) {
            memory!(_mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), a))
        }
        #[inline(always)]
        fn magnitude(self, a: __m256, m: __m256) -> __m256 {
            // As whole numbers, magnitudes are in the same order, and what is not finite is the greatest.
            token!(_mm256_castsi256_ps(_mm256_max_epi32(
                _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(i32::MAX)),
                _mm256_castps_si256(m),
            )))
        }
        #[inline(always)]
        fn greatest_of_four(self, m: [__m256; 4]) -> [f32; 4] {
            token!({
                let [a, b, c, d] = m;
                let (a, b, c, d) = (_mm256_castps_si256(a), _mm256_castps_si256(b), _mm256_castps_si256(c), _mm256_castps_si256(d));
                let ab = _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                let cd = _mm256_max_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                let abcd = _mm256_max_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
                let half = _mm_max_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256::<1>(abcd));
                core::mem::transmute::<__m128i, [f32; 4]>(half)
            })
        }
        #[inline(always)]
        unsafe fn store_quads(self, p: *mut u8, stride: usize, rows: [__m256; 4]) {
            memory!({
                // Packing works within 128-bit lanes, and such a lane of a row is a quad: what comes out are the quads, four rows each.
                let [a, b, c, d] = rows;
                let (a, b, c, d) = (_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b), _mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
                let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
                let bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(Self::ACTIVATION_OFFSET as u8 as i8));
                _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(bytes));
                _mm_storeu_si128(p.add(stride).cast(), _mm256_extracti128_si256::<1>(bytes));
            })
        }
    };
}
