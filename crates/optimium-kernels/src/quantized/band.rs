//! Copies of a few lines of an image with its border filled in, so that a convolution needs no tests.

/// The part of a padded image that some output lines see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    /// The first line, counted in the image; negative in the upper border.
    pub(super) top: isize,
    /// The first column, likewise.
    pub(super) left: isize,
    /// Number of lines.
    pub(super) lines: usize,
    /// Number of columns.
    pub(super) columns: usize,
}

impl Band {
    /// Bytes of the copy.
    pub(super) fn len(self, channels: usize) -> usize {
        self.lines * self.columns * channels
    }

    /// Copies the band of `image` (height, width, elements from one pixel to the next) to the start of
    /// `out`, without gaps; what lies outside becomes `border`.
    pub(super) fn copy(
        self,
        image: &[u8],
        [height, width]: [usize; 2],
        stride: usize,
        channels: usize,
        border: u8,
        out: &mut [u8],
    ) {
        let line_length = self.columns * channels;
        if line_length == 0 {
            return;
        }
        let before = (self.left.min(0).unsigned_abs()).min(self.columns);
        let first = self.left.max(0) as usize;
        let inside = width.saturating_sub(first).min(self.columns - before);
        for (i, line) in out[..self.len(channels)].chunks_exact_mut(line_length).enumerate() {
            let y = self.top + i as isize;
            if y < 0 || y as usize >= height {
                line.fill(border);
                continue;
            }
            let (left, rest) = line.split_at_mut(before * channels);
            let (middle, right) = rest.split_at_mut(inside * channels);
            left.fill(border);
            right.fill(border);
            if inside == 0 {
                continue;
            }
            let source = &image[(y as usize * width + first) * stride..];
            if stride == channels {
                middle.copy_from_slice(&source[..middle.len()]);
            } else {
                for (pixel, from) in middle.chunks_exact_mut(channels).zip(source.chunks(stride)) {
                    pixel.copy_from_slice(&from[..channels]);
                }
            }
        }
    }
}
