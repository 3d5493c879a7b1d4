//! What an instruction set must offer: the algorithms are written once over [`Simd`].
//!
//! A value of a type that implements [`Simd`] is a token: whoever holds one knows that this CPU has the instructions
//! ([`crate::Isa`] makes them). So operations on vectors are safe, and only those that touch memory are not.
//!
//! Every method is `#[inline(always)]`: it must end up inside a function that enables the instruction set, which
//! [`crate::isa::Isa::run`] sees to. For the same reason kernels use plain loops and no closures.

/// Columns of a weight panel, for every instruction set: one packed layout serves all.
pub const PANEL: usize = 16;

/// [`Simd::dot_tile`] by [`Simd::dot`].
pub const CHANNELS: u8 = 0;
/// [`Simd::dot_tile`] by [`Simd::dot_grouped`].
pub const GROUPED: u8 = 1;
/// [`Simd::dot_tile`] by [`Simd::dot_nibbles`].
pub const NIBBLES: u8 = 2;

/// Vectors of f32, i32 and bytes of one instruction set.
///
/// Bytes come in groups of four: lane `i` of a [`Simd::I`] belongs to bytes `4 i .. 4 i + 4` of a [`Simd::B`].
pub trait Simd: Copy + Send + Sync + 'static {
    /// Lanes of f32 and i32; divides [`PANEL`].
    const LANES: usize;
    /// Rows of the int8 tile.
    const INT8_ROWS: usize;
    /// Rows of tiles of groups (int4, int8 in groups of 32).
    const GROUP_ROWS: usize;
    /// Rows of the f32 tile.
    const F32_ROWS: usize;
    /// What is added to an activation before [`Simd::dot`]: 128 where the instruction multiplies unsigned by signed.
    const ACTIVATION_OFFSET: i32;
    /// Whether products of nibbles are summed in 16 bits over a group ([`Simd::dot_short`]).
    const SHORT_NIBBLES: bool = false;
    /// Whether [`Simd::dot_columns`] reads rows as [`Simd::signs_apart`] writes them, and leaves a row's Σ |a| over its negative `a` out.
    const SIGNS_APART: bool = false;
    /// What [`Simd::dot_grouped`] adds to a weight: 128 where the instruction multiplies unsigned by signed.
    const WEIGHT_OFFSET: i32;

    /// f32 lanes.
    type F: Copy;
    /// i32 lanes.
    type I: Copy;
    /// Four bytes a lane.
    type B: Copy;

    /// Every lane `x`.
    fn splat(self, x: f32) -> Self::F;
    /// a + b
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once where the hardware can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The greater; `b` where either is no number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` where either is no number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// |a|
    fn abs(self, a: Self::F) -> Self::F;
    /// The nearest whole number, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// 2ⁿ for whole `n` within −126…127; 0 for −127.
    fn pow2(self, n: Self::F) -> Self::F;
    /// Sum of the lanes.
    fn sum(self, a: Self::F) -> f32;
    /// Greatest lane.
    fn greatest(self, a: Self::F) -> f32;
    /// Lanes from memory.
    ///
    /// # Safety
    /// `LANES` floats must be readable at `p`.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Lanes to memory.
    ///
    /// # Safety
    /// `LANES` floats must be writable at `p`.
    unsafe fn store(self, p: *mut f32, a: Self::F);
    /// Lanes from half floats.
    ///
    /// # Safety
    /// `LANES` half floats must be readable at `p`.
    unsafe fn load_f16(self, p: *const half::f16) -> Self::F;
    /// Lanes from bytes −128…127.
    ///
    /// # Safety
    /// `LANES` bytes must be readable at `p`.
    unsafe fn load_i8(self, p: *const i8) -> Self::F;

    /// Every lane `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// To f32, exact up to 2²⁴.
    fn to_f(self, a: Self::I) -> Self::F;
    /// The nearest whole numbers; no number becomes any number.
    fn to_i(self, a: Self::F) -> Self::I;
    /// a + b, wrapping.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// a · b, wrapping.
    fn scale_i(self, a: Self::I, b: i32) -> Self::I;
    /// Lanes from memory.
    ///
    /// # Safety
    /// `LANES` integers must be readable at `p`.
    unsafe fn load_i(self, p: *const i32) -> Self::I;
    /// The low byte of each lane, to `LANES` bytes.
    ///
    /// # Safety
    /// `LANES` bytes must be writable at `p`.
    unsafe fn store_bytes(self, p: *mut u8, a: Self::I);

    /// Bytes from memory.
    ///
    /// # Safety
    /// `4 * LANES` bytes must be readable at `p`.
    unsafe fn load_b(self, p: *const u8) -> Self::B;
    /// The same four bytes in every lane.
    ///
    /// # Safety
    /// Four bytes must be readable at `p`.
    unsafe fn splat_b(self, p: *const u8) -> Self::B;
    /// Low and high nibbles of every byte.
    fn nibbles(self, a: Self::B) -> (Self::B, Self::B);
    /// acc + Σ w · a over a lane's four bytes, with `w` −127…127 and `a` an activation of −127…127 with
    /// [`Simd::ACTIVATION_OFFSET`] added.
    fn dot(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I;
    /// acc + Σ (w + [`Simd::WEIGHT_OFFSET`]) · a, with `w` −127…127 and `a` −127…127.
    fn dot_grouped(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I;
    /// acc + Σ w · a, with `w` 0…15 and `a` −127…127.
    fn dot_nibbles(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I;

    /// One of the three products (`PRODUCT`) for R rows, whose fours lie one after another from `a` on, and V vectors of weights.
    ///
    /// For instruction sets that have a better way than to broadcast each row's four.
    ///
    /// # Safety
    /// `4 * R` bytes must be readable at `a`.
    #[inline(always)]
    unsafe fn dot_tile<const PRODUCT: u8, const R: usize, const V: usize>(
        self,
        acc: &mut [[Self::I; V]; R],
        w: &[Self::B; V],
        a: *const u8,
    ) {
        let mut r = 0;
        while r < R {
            // SAFETY: the caller's.
            let x = unsafe { self.splat_b(a.add(r * 4)) };
            let mut v = 0;
            while v < V {
                acc[r][v] = match PRODUCT {
                    CHANNELS => self.dot(acc[r][v], w[v], x),
                    GROUPED => self.dot_grouped(acc[r][v], w[v], x),
                    _ => self.dot_nibbles(acc[r][v], w[v], x),
                };
                v += 1;
            }
            r += 1;
        }
    }

    /// Writes `count` times eight fours of activations, each eight `stride` fours after the one before, as magnitudes and signs: for each four its
    /// magnitudes, then four bytes that are −1 where the activation is negative. Gives the sums of |a| over negative activations of the first
    /// fours of all eights, of the second, and so on.
    ///
    /// Where signs are apart: a · w = |a| · (w xor sign) + |a| for a negative a, as −w = (w xor −1) + 1.
    ///
    /// # Safety
    /// 32 bytes must be readable for each eight from `p` on, 64 writable from `to` on.
    #[inline(always)]
    unsafe fn signs_apart(self, _p: *const u8, _to: *mut u8, _stride: usize, _count: usize) -> [i32; 8] {
        const { assert!(!Self::SIGNS_APART) };
        [0; 8]
    }

    /// acc + Σ w · a over each two of a lane's four bytes, in its halves of 16 bits, with `w` 0…15 and `a` −127…127: eight such sums fit,
    /// as 8 · 2 · 15 · 127 < 2¹⁵.
    #[inline(always)]
    fn dot_short(self, acc: Self::I, _w: Self::B, _a: Self::B) -> Self::I {
        const { assert!(!Self::SHORT_NIBBLES) };
        acc
    }

    /// acc + both halves of a lane of [`Simd::dot_short`].
    #[inline(always)]
    fn add_halves(self, acc: Self::I, _halves: Self::I) -> Self::I {
        const { assert!(!Self::SHORT_NIBBLES) };
        acc
    }

    /// [`Simd::dot`] down `quads` fours of input channels: rows' fours are `[quads][R][4]` from `a` on (`[quads][R][8]` where signs are apart);
    /// weights are `[quads][PANEL][4]` from `w` on, with `panel_stride` bytes from one panel to the next.
    ///
    /// For instruction sets that can take more than four input channels at a time.
    ///
    /// # Safety
    /// All those bytes must be readable.
    #[inline(always)]
    unsafe fn dot_columns<const R: usize, const V: usize>(
        self,
        acc: &mut [[Self::I; V]; R],
        w: *const u8,
        panel_stride: usize,
        a: *const u8,
        quads: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { dot_quads(self, acc, w, panel_stride, a, quads) }
    }

    /// The same where signs are apart and no activation is negative, with rows' fours `[quads][R][4]`.
    ///
    /// # Safety
    /// As [`Simd::dot_columns`].
    #[inline(always)]
    unsafe fn dot_unsigned_columns<const R: usize, const V: usize>(
        self,
        _acc: &mut [[Self::I; V]; R],
        _w: *const u8,
        _panel_stride: usize,
        _a: *const u8,
        _quads: usize,
    ) {
        const { assert!(!Self::SIGNS_APART) };
    }

    /// Runs a kernel in a function of its own, so that what many callers share is compiled once.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// Asks for a cache line that will be read.
    fn prefetch(self, p: *const u8);

    /// Whether there are the products of bfloat16 below. Where not, nobody calls them, and they do nothing.
    const BF16: bool = false;

    /// Both rounded to bfloat16: lane i holds `even` i in its low half and `odd` i in its high one.
    #[inline(always)]
    fn pair_bf16(self, _even: Self::F, _odd: Self::F) -> Self::B {
        const { assert!(!Self::BF16) };
        // SAFETY: the bytes are there.
        unsafe { self.load_b([0_u8; 4 * PANEL].as_ptr()) }
    }
    /// Bytes to memory.
    ///
    /// # Safety
    /// `4 * LANES` bytes must be writable at `p`.
    #[inline(always)]
    unsafe fn store_b(self, _p: *mut u8, _a: Self::B) {
        const { assert!(!Self::BF16) };
    }
    /// Lanes rounded to bfloat16, to memory.
    ///
    /// # Safety
    /// `2 * LANES` bytes must be writable at `p`.
    #[inline(always)]
    unsafe fn store_bf16(self, _p: *mut u8, _a: Self::F) {
        const { assert!(!Self::BF16) };
    }
    /// acc + Σ a · b over a lane's two bfloat16.
    #[inline(always)]
    fn dot_bf16(self, acc: Self::F, _a: Self::B, _b: Self::B) -> Self::F {
        const { assert!(!Self::BF16) };
        acc
    }

    /// Swaps lane i of row j with lane j of row i, for the first `LANES` rows.
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::F; PANEL]) {
        let (mut from, mut to) = ([0.0_f32; PANEL * PANEL], [0.0_f32; PANEL * PANEL]);
        // SAFETY: both have room for `PANEL` vectors of at most `PANEL` lanes.
        unsafe {
            let mut i = 0;
            while i < Self::LANES {
                self.store(from.as_mut_ptr().add(i * Self::LANES), rows[i]);
                i += 1;
            }
            let mut i = 0;
            while i < Self::LANES * Self::LANES {
                to[i] = from[i % Self::LANES * Self::LANES + i / Self::LANES];
                i += 1;
            }
            let mut i = 0;
            while i < Self::LANES {
                rows[i] = self.load(to.as_ptr().add(i * Self::LANES));
                i += 1;
            }
        }
    }

    /// The first `n` lanes from memory, zero in the others; all where `n` is at least `LANES`.
    ///
    /// # Safety
    /// `min(n, LANES)` floats must be readable at `p`.
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F {
        let mut buffer = [0.0_f32; PANEL];
        let mut i = 0;
        while i < n && i < Self::LANES {
            // SAFETY: the caller's; the buffer has room for any vector.
            unsafe { buffer[i] = p.add(i).read() };
            i += 1;
        }
        // SAFETY: as above.
        unsafe { self.load(buffer.as_ptr()) }
    }

    /// The first `n` lanes to memory; all where `n` is at least `LANES`.
    ///
    /// # Safety
    /// `min(n, LANES)` floats must be writable at `p`.
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, a: Self::F, n: usize) {
        let mut buffer = [0.0_f32; PANEL];
        // SAFETY: the buffer has room for any vector.
        unsafe { self.store(buffer.as_mut_ptr(), a) };
        let mut i = 0;
        while i < n && i < Self::LANES {
            // SAFETY: the caller's.
            unsafe { p.add(i).write(buffer[i]) };
            i += 1;
        }
    }

    /// The greater of |a| and m, lane by lane; not finite where one of both is not. `m` comes from here, or is zero.
    #[inline(always)]
    fn magnitude(self, a: Self::F, m: Self::F) -> Self::F {
        // What is no number stays in `m`: `max` returns its second argument then.
        self.fma(a, self.splat(0.0), self.max(self.abs(a), m))
    }

    /// The greatest lane of each of four vectors of magnitudes; not finite where one lane is not.
    #[inline(always)]
    fn greatest_of_four(self, m: [Self::F; 4]) -> [f32; 4] {
        let mut greatest = [0.0; 4];
        let mut r = 0;
        while r < 4 {
            greatest[r] = self.greatest(m[r]) + self.sum(self.mul(m[r], self.splat(0.0)));
            r += 1;
        }
        greatest
    }

    /// Rounds four rows to bytes with [`Simd::ACTIVATION_OFFSET`] added, and stores them quad by quad: lanes 4 q … 4 q + 3 of the rows
    /// side by side, 16 bytes at `p + q · stride`. Rows round to −127…127; what is no number becomes any byte.
    ///
    /// # Safety
    /// 16 bytes must be writable at each of the `LANES / 4` places.
    #[inline(always)]
    unsafe fn store_quads(self, p: *mut u8, stride: usize, rows: [Self::F; 4]) {
        let offset = self.splat_i(Self::ACTIVATION_OFFSET);
        let mut bytes = [0_u8; 4 * PANEL];
        let mut r = 0;
        while r < 4 {
            // SAFETY: the buffer has room for four vectors.
            unsafe { self.store_bytes(bytes.as_mut_ptr().add(r * PANEL), self.add_i(self.to_i(rows[r]), offset)) };
            r += 1;
        }
        let mut q = 0;
        while q < Self::LANES / 4 {
            let mut r = 0;
            while r < 4 {
                // SAFETY: the caller's; reads are within the buffer.
                unsafe {
                    let word = bytes.as_ptr().add(r * PANEL + q * 4).cast::<u32>().read_unaligned();
                    p.add(q * stride + r * 4).cast::<u32>().write_unaligned(word);
                }
                r += 1;
            }
            q += 1;
        }
    }
}

/// [`Simd::dot_columns`], four input channels at a time.
///
/// # Safety
/// As [`Simd::dot_columns`].
#[inline(always)]
pub unsafe fn dot_quads<S: Simd, const R: usize, const V: usize>(
    s: S,
    acc: &mut [[S::I; V]; R],
    mut w: *const u8,
    panel_stride: usize,
    mut a: *const u8,
    quads: usize,
) {
    let per_panel = PANEL / S::LANES;
    let mut quad = 0;
    while quad < quads {
        // SAFETY: the caller's.
        unsafe {
            let mut weights = [s.load_b(w); V];
            let mut v = 1;
            while v < V {
                weights[v] = s.load_b(w.add(v / per_panel * panel_stride + v % per_panel * S::LANES * 4));
                v += 1;
            }
            // The same place in the next strip, which lies behind this one; beyond the weight's end nothing is read.
            let mut panel = if R > 1 { 0 } else { V };
            while panel < V / per_panel {
                s.prefetch(w.wrapping_add((panel + V / per_panel) * panel_stride));
                panel += 1;
            }
            s.dot_tile::<CHANNELS, R, V>(acc, &weights, a);
            a = a.add(R * 4);
            w = w.add(PANEL * 4);
        }
        quad += 1;
    }
}

/// Work that [`crate::isa::Isa::run`] compiles for every instruction set.
pub trait Kernel {
    /// What comes out.
    type Output;
    /// Does it. Must be `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}
