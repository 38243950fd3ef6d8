//! Rates of copies, transposes, pools and resizes on one core, beside those of a plain copy.

mod common;

use std::hint::black_box;

use optimium_kernels::movement::{Pad, PadMode, StridedCopy, Transpose};
use optimium_kernels::pool::{PoolGeometry, average_pool, max_pool};
use optimium_kernels::resize::{Mode, Resize, ResizeOptions};
use optimium_kernels::{AlignedVec, Part, SharedSlice};
use optimium_simd::Level;
use optimium_testing::Random;

/// Bytes that begin with a cache line, as tensors do, in pages that are there.
fn aligned(size: usize) -> AlignedVec<u8> {
    let mut bytes = AlignedVec::zeroed(size);
    bytes.fill(1);
    bytes
}

fn floats(count: usize) -> AlignedVec<f32> {
    let mut values = AlignedVec::zeroed(count);
    values.copy_from_slice(&Random::new(1).floats(count));
    values
}

/// Prints the bytes read and written in a second, and a copy's time for as many by the time taken.
fn report(name: &str, read: usize, written: usize, seconds: f64) {
    let size = (read + written) / 2;
    let (from, mut to) = (aligned(size), aligned(size));
    let copy = common::seconds(|| black_box(&mut to[..]).copy_from_slice(black_box(&from)));
    let rate = (read + written) as f64 / seconds / 1e9;
    println!("{name:44} {:9.1} µs {rate:8.1} GB/s {:6.3} of a copy", seconds * 1e6, copy / seconds);
}

fn transpose(shape: &[usize], permutation: &[usize], element_size: usize) {
    let bytes = shape.iter().product::<usize>() * element_size;
    let (x, mut y) = (aligned(bytes), aligned(bytes));
    let transpose = Transpose::new(shape, permutation, element_size);
    let y = SharedSlice::new(&mut y);
    let seconds = common::seconds(|| transpose.run(&x, y, Part::WHOLE));
    report(&format!("transpose {shape:?} by {permutation:?}, {element_size} bytes"), bytes, bytes, seconds);
}

fn copies() {
    let (x, mut y) = (aligned(1 << 22), aligned(1 << 22));
    let y = SharedSlice::new(&mut y);
    let (slice, offset) = StridedCopy::slice(&[1024, 1024], &[0, 512], &[1, 1], &[1024, 512], 4);
    let seconds = common::seconds(|| slice.run(&x, offset, y, 0, Part::WHOLE));
    report("half of each row of 1024 x 1024", 1 << 21, 1 << 21, seconds);
    let (slice, offset) = StridedCopy::slice(&[1024, 1024], &[0, 0], &[1, 2], &[1024, 512], 4);
    let seconds = common::seconds(|| slice.run(&x, offset, y, 0, Part::WHOLE));
    report("every other element of 1024 x 1024", 1 << 22, 1 << 21, seconds);
    let expand = StridedCopy::expand(&[1024, 1], &[1024, 1024], 4);
    let seconds = common::seconds(|| expand.run(&x, 0, y, 0, Part::WHOLE));
    report("a column broadcast to 1024 x 1024", 1 << 12, 1 << 22, seconds);
    let pad = Pad::new(&[112, 112, 64], &[1, 1, 0], &[1, 1, 0], PadMode::Constant, 4);
    let (from, to) = (112 * 112 * 64 * 4, 114 * 114 * 64 * 4);
    let seconds = common::seconds(|| {
        // SAFETY: the slice is dropped before the next one.
        let y = unsafe { SharedSlice::from_raw(y.as_mut_ptr(), to) };
        pad.run(&x[..from], &[0; 4], y, Part::WHOLE);
    });
    report("pad 112 x 112 x 64", from, to, seconds);
}

fn pools(level: Level) {
    for [size, channels, kernel, stride] in [[112, 64, 3, 2], [56, 64, 2, 2], [20, 256, 5, 1]] {
        let output = size / stride;
        let geometry = PoolGeometry {
            batch: 1,
            channels,
            input: [size; 2],
            output: [output; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            padding: [(kernel - 1) / 2; 2],
            padding_end: [(kernel - 1) / 2; 2],
            input_stride: channels,
            output_stride: channels,
        };
        let x = floats(size * size * channels);
        let mut y = AlignedVec::zeroed(output * output * channels);
        let (read, written) = (4 * x.len(), 4 * y.len());
        let y = SharedSlice::new(&mut y);
        let name = format!("{size}² x {channels}, {kernel} x {kernel}, stride {stride}");
        let seconds = common::seconds(|| max_pool(level, &geometry, &x, y, Part::WHOLE));
        report(&format!("maximum {name}"), read, written, seconds);
        let seconds = common::seconds(|| average_pool(level, &geometry, false, &x, y, Part::WHOLE));
        report(&format!("mean {name}"), read, written, seconds);
    }
}

fn resizes(level: Level) {
    for mode in [Mode::Nearest, Mode::Linear, Mode::Cubic] {
        let options = ResizeOptions { mode, ..ResizeOptions::default() };
        let (input, output) = ([1, 40, 40, 128], [1, 80, 80, 128]);
        let resize = Resize::new(level, &options, &input, &output, &[1.0, 2.0, 2.0, 1.0], None);
        let x = floats(input.iter().product());
        let mut y = AlignedVec::zeroed(output.iter().product());
        let (read, written) = (4 * x.len(), 4 * y.len());
        let y = SharedSlice::new(&mut y);
        let seconds = common::seconds(|| resize.run(&x, y, Part::WHOLE));
        report(&format!("resize {mode:?} {input:?} by 2"), read, written, seconds);
    }
}

fn main() {
    let level = Level::best();
    copies();
    transpose(&[1024, 1024], &[1, 0], 4);
    transpose(&[384, 197], &[1, 0], 4);
    transpose(&[1, 64, 3136], &[0, 2, 1], 4);
    transpose(&[1, 3136, 64], &[0, 2, 1], 4);
    transpose(&[1, 3, 50176], &[0, 2, 1], 4);
    transpose(&[1, 50176, 3], &[0, 2, 1], 4);
    transpose(&[1, 3, 50176], &[0, 2, 1], 1);
    transpose(&[1, 256, 784], &[0, 2, 1], 1);
    transpose(&[1, 256, 784], &[0, 2, 1], 2);
    transpose(&[1, 256, 784], &[0, 2, 1], 8);
    transpose(&[1, 197, 12, 64], &[0, 2, 1, 3], 4);
    pools(level);
    resizes(level);
}
