//! Where the windows of a convolution lie.

/// A map's size and the square windows that slide over it. Windows may reach beyond the map, where it counts as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    top: usize,
    left: usize,
    out_height: usize,
    out_width: usize,
}

impl Geometry {
    /// TensorFlow's `SAME`: ⌈size / stride⌉ windows each way; of an odd padding the greater half is below and to the right.
    ///
    /// # Panics
    /// Where a size is zero.
    pub fn same(height: usize, width: usize, kernel: usize, stride: usize) -> Self {
        assert!(stride > 0, "a stride is at least one pixel");
        let padding = |size: usize| ((size.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(size);
        let (vertical, horizontal) = (padding(height), padding(width));
        let (top, left) = (vertical / 2, horizontal / 2);
        Self::padded(height, width, kernel, stride, [top, left, vertical - top, horizontal - left])
    }

    /// With `[top, left, bottom, right]` pixels of padding.
    ///
    /// # Panics
    /// Where a size is zero, no window fits, or a window would see nothing but padding.
    pub fn padded(height: usize, width: usize, kernel: usize, stride: usize, padding: [usize; 4]) -> Self {
        let [top, left, bottom, right] = padding;
        assert!(height > 0 && width > 0 && kernel > 0 && stride > 0, "sizes of a convolution are at least one pixel");
        assert!(padding.iter().all(|&side| side < kernel), "a padding of {padding:?} leaves windows of {kernel} pixels empty");
        let windows = |size: usize| if size < kernel { 0 } else { (size - kernel) / stride + 1 };
        let (out_height, out_width) = (windows(top + height + bottom), windows(left + width + right));
        assert!(out_height > 0 && out_width > 0, "no window of {kernel} pixels fits in {height} x {width} padded by {padding:?}");
        Self { height, width, kernel, stride, top, left, out_height, out_width }
    }

    /// Windows side by side, as a vision transformer's patches; what is left at the lower and right edge is not seen.
    ///
    /// # Panics
    /// Where a size is zero or no patch fits.
    pub fn patches(height: usize, width: usize, side: usize) -> Self {
        Self::padded(height, width, side, side, [0; 4])
    }

    /// Rows of the map that comes in.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of the map that comes in.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Side of a window in pixels.
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// Pixels from one window to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Rows of padding above.
    pub fn top(&self) -> usize {
        self.top
    }

    /// Columns of padding to the left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Rows of the map that goes out.
    pub fn out_height(&self) -> usize {
        self.out_height
    }

    /// Columns of the map that goes out.
    pub fn out_width(&self) -> usize {
        self.out_width
    }

    /// Pixels that come in.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Pixels that go out: windows.
    pub fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }
}
