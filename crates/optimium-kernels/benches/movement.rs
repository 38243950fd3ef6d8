//! Rates of copies, transposes, pools and resizes on one core, beside those of a plain copy.

mod common;

use std::process::ExitCode;

use optimium_kernels::movement::{
    Pad, PadMode, Reduction, StridedCopy, Transpose, gather, scatter_elements, scatter_nd,
};
use optimium_kernels::pool::{PoolGeometry, average_pool, max_pool, max_pool_u8};
use optimium_kernels::resize::{Mode, Resize, ResizeOptions};
use optimium_kernels::{AlignedVec, Part, SharedSlice};
use optimium_testing::Random;

use common::Bench;

/// Transposes of the usual networks: shape, permutation, bytes of an element.
const TRANSPOSES: [(&[usize], &[usize], usize); 11] = [
    (&[1024, 1024], &[1, 0], 4),
    (&[384, 197], &[1, 0], 4),
    (&[1, 64, 3136], &[0, 2, 1], 4),
    (&[1, 3136, 64], &[0, 2, 1], 4),
    (&[1, 3, 50176], &[0, 2, 1], 4),
    (&[1, 50176, 3], &[0, 2, 1], 4),
    (&[1, 3, 50176], &[0, 2, 1], 1),
    (&[1, 256, 784], &[0, 2, 1], 1),
    (&[1, 256, 784], &[0, 2, 1], 2),
    (&[1, 256, 784], &[0, 2, 1], 8),
    (&[1, 197, 12, 64], &[0, 2, 1, 3], 4),
];

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

fn transpose(bench: &mut Bench, shape: &[usize], permutation: &[usize], element_size: usize) {
    let bytes = shape.iter().product::<usize>() * element_size;
    let (x, mut y) = (aligned(bytes), aligned(bytes));
    let transpose = Transpose::new(shape, permutation, element_size);
    let y = SharedSlice::new(&mut y);
    let name = format!("transpose {shape:?} by {permutation:?}, {element_size} bytes");
    bench.bytes(&name, 2 * bytes, || transpose.run(&x, y, Part::WHOLE));
}

fn copies(bench: &mut Bench) {
    let (x, mut y) = (aligned(1 << 22), aligned(1 << 22));
    let y = SharedSlice::new(&mut y);
    let (slice, offset) = StridedCopy::slice(&[1024, 1024], &[0, 512], &[1, 1], &[1024, 512], 4);
    bench.bytes("half of each row of 1024 x 1024", (1 << 21) + (1 << 21), || {
        slice.run(&x, offset, y, 0, Part::WHOLE)
    });
    let (slice, offset) = StridedCopy::slice(&[1024, 1024], &[0, 0], &[1, 2], &[1024, 512], 4);
    bench.bytes("every other element of 1024 x 1024", (1 << 22) + (1 << 21), || {
        slice.run(&x, offset, y, 0, Part::WHOLE)
    });
    let expand = StridedCopy::expand(&[1024, 1], &[1024, 1024], 4);
    bench.bytes("a column broadcast to 1024 x 1024", (1 << 12) + (1 << 22), || {
        expand.run(&x, 0, y, 0, Part::WHOLE)
    });
    let pad = Pad::new(&[112, 112, 64], &[1, 1, 0], &[1, 1, 0], PadMode::Constant, 4);
    let (from, to) = (112 * 112 * 64 * 4, 114 * 114 * 64 * 4);
    bench.bytes("pad 112 x 112 x 64", from + to, || {
        // SAFETY: the slice is dropped before the next one.
        let y = unsafe { SharedSlice::from_raw(y.as_mut_ptr(), to) };
        pad.run(&x[..from], &[0; 4], y, Part::WHOLE);
    });
}

/// The rows of an embedding.
fn embedding(bench: &mut Bench) {
    let (words, width, tokens) = (4000, 384, 128);
    let (table, mut y) = (aligned(words * width * 4), aligned(tokens * width * 4));
    let ids: Vec<i64> = (0..tokens as i64).map(|i| i * 31 % words as i64).collect();
    let y = SharedSlice::new(&mut y);
    bench.bytes(&format!("{tokens} of {words} rows of {width}"), 2 * tokens * width * 4, || {
        gather(&table, &[words, width], 0, &ids, 4, y, Part::WHOLE).expect("the ids are rows");
    });
}

/// Rows that a cache takes up, and sums of rows and of elements.
fn scatters(bench: &mut Bench) {
    let (rows, width, tokens) = (4000, 384, 128);
    let (mut table, updates) = (floats(rows * width), floats(tokens * width));
    let table = SharedSlice::new(&mut table);
    let ids: Vec<i64> = (0..tokens as i64).map(|i| i * 31 % rows as i64).collect();
    let columns: Vec<i64> = (0..tokens * width).map(|i| (i * 7 % width) as i64).collect();
    for reduction in [Reduction::None, Reduction::Add] {
        let bytes = 2 * tokens * width * 4;
        bench.bytes(&format!("scatter {tokens} rows of {width}, {reduction:?}"), bytes, || {
            let done =
                scatter_nd(&[rows, width], &ids, &[tokens, 1], &updates, reduction, table, Part::WHOLE);
            done.expect("the ids are rows");
        });
        let shape = [tokens, width];
        bench.bytes(&format!("scatter {tokens} x {width} elements, {reduction:?}"), 2 * bytes, || {
            // SAFETY: the slice is dropped before the next one.
            let y = unsafe { SharedSlice::from_raw(table.as_mut_ptr(), tokens * width) };
            scatter_elements(&shape, 1, &columns, &shape, &updates, reduction, y, Part::WHOLE)
                .expect("the indices are columns");
        });
    }
}

fn pools(bench: &mut Bench) {
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
        let bytes = 4 * (x.len() + y.len());
        let (level, y) = (bench.level, SharedSlice::new(&mut y));
        let name = format!("{size}² x {channels}, {kernel} x {kernel}, stride {stride}");
        bench.bytes(&format!("maximum {name}"), bytes, || {
            max_pool(level, &geometry, (&x[..]).into(), y, Part::WHOLE);
        });
        bench.bytes(&format!("mean {name}"), bytes, || {
            average_pool(level, &geometry, false, (&x[..]).into(), y, Part::WHOLE);
        });
        let (x, mut y) = (aligned(x.len()), aligned(y.len()));
        let y = SharedSlice::new(&mut y);
        bench.bytes(&format!("maximum {name}, of bytes"), bytes / 4, || {
            max_pool_u8(level, &geometry, (&x[..]).into(), y, Part::WHOLE);
        });
    }
}

fn resizes(bench: &mut Bench) {
    for mode in [Mode::Nearest, Mode::Linear, Mode::Cubic] {
        resize(bench, mode, [1, 40, 40, 128], [1, 80, 80, 128]);
    }
    resize(bench, Mode::Linear, [1, 224, 224, 3], [1, 96, 96, 3]);
    resize(bench, Mode::Linear, [1, 21, 33, 33], [1, 21, 264, 264]);
    resize(bench, Mode::Nearest, [1, 21, 33, 33], [1, 21, 264, 264]);
}

fn resize(bench: &mut Bench, mode: Mode, input: [usize; 4], output: [usize; 4]) {
    let options = ResizeOptions { mode, ..ResizeOptions::default() };
    let scales = [0, 1, 2, 3].map(|axis| output[axis] as f32 / input[axis] as f32);
    let resize = Resize::new(bench.level, &options, &input, &output, &scales, None);
    let x = floats(input.iter().product());
    let mut y = AlignedVec::zeroed(output.iter().product());
    let elements = x.len() + y.len();
    let y = SharedSlice::new(&mut y);
    let name = format!("resize {mode:?} {input:?} to {output:?}");
    bench.bytes(&name, 4 * elements, || resize.run(&x, y, Part::WHOLE));
    if mode == Mode::Nearest {
        let (x, mut y) = (aligned(x.len()), aligned(y.len()));
        let y = SharedSlice::new(&mut y);
        bench.bytes(&format!("{name}, of bytes"), elements, || resize.run_bytes(&x, &[0], 1, y, Part::WHOLE));
    }
}

fn main() -> ExitCode {
    common::run("movement", |bench| {
        copies(bench);
        for (shape, permutation, element_size) in TRANSPOSES {
            transpose(bench, shape, permutation, element_size);
        }
        embedding(bench);
        scatters(bench);
        pools(bench);
        resizes(bench);
    })
}
