//! Convolutions of integers, whose zero points may be computed.

use optimium_graph::Operator;
use optimium_graph::ops::{Conv, ConvInteger, Fusion, ImageLayout, Padding};
use optimium_tensor::{ElementType, Tensor};
use optimium_testing::{Random, Tolerance, each_case};

use super::harness::Builder;

/// The zero points of the weights.
#[derive(Clone, Copy, Debug)]
enum Zeros {
    None,
    One,
    EachChannel,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// Input channels, output channels, groups.
    channels: [usize; 3],
    /// Height and width of the kernel; images of one dimension have no height.
    kernel: &'static [usize],
    /// Of the image and of the weights.
    signed: [bool; 2],
    zeros: Zeros,
    constant: bool,
}

const SIZE: usize = 6;

fn values(bytes: &[u8], signed: bool) -> Vec<i32> {
    bytes.iter().map(|&x| if signed { i32::from(x as i8) } else { i32::from(x) }).collect()
}

fn tensor(dims: &[usize], bytes: &[u8], signed: bool) -> Tensor {
    let element_type = if signed { ElementType::I8 } else { ElementType::U8 };
    Tensor::from_bytes(element_type, dims, bytes).expect("values fit")
}

/// The sums by their definition, a border of one pixel in front of every axis.
fn naive(case: &Case, x: &[i32], w: &[i32], w_zero: impl Fn(usize) -> i32, out: [usize; 2]) -> Vec<f32> {
    let [inputs, outputs, groups] = case.channels;
    let ([kh, kw], each) = (two(case.kernel), inputs / groups);
    let height = if case.kernel.len() == 1 { 1 } else { SIZE };
    let top = case.kernel.len() - 1;
    let mut result = vec![];
    for index in 0..out[0] * out[1] * outputs {
        let (pixel, channel) = (index / outputs, index % outputs);
        let mut sum = 0;
        for (ky, kx, i) in (0..kh * kw * each).map(|t| (t / each / kw, t / each % kw, t % each)) {
            let (y, column) = (pixel / out[1] + ky, pixel % out[1] + kx);
            if y >= top && y < height + top && column > 0 && column <= SIZE {
                let at = ((y - top) * SIZE + column - 1) * inputs + channel / (outputs / groups) * each + i;
                sum += x[at] * (w[((channel * each + i) * kh + ky) * kw + kx] - w_zero(channel));
            }
        }
        result.push(sum as f32);
    }
    result
}

/// The height and the width of a kernel.
fn two(kernel: &[usize]) -> [usize; 2] {
    if let [height, width] = *kernel { [height, width] } else { [1, kernel[0]] }
}

fn check(case: &Case) -> Result<(), String> {
    let Case { channels: [inputs, outputs, groups], kernel, signed, zeros, constant } = *case;
    let mut random = Random::new(4);
    let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| random.bits() as u8).collect() };
    let image = [&[1], vec![SIZE; kernel.len()].as_slice(), &[inputs]].concat();
    let weights = [&[outputs, inputs / groups], kernel].concat();
    let (x, w) = (bytes(image.iter().product()), bytes(weights.iter().product()));
    let (x_zero, all_zeros) = (bytes(1), bytes(outputs));
    let w_zeros = match zeros {
        Zeros::None => None,
        Zeros::One => Some(&all_zeros[..1]),
        Zeros::EachChannel => Some(&all_zeros[..]),
    };
    let mut b = Builder::new();
    let mut add = |tensor: Tensor| if constant { b.known(tensor) } else { b.given(tensor) };
    let w_id = add(tensor(&weights, &w, signed[1]));
    let w_zero = w_zeros.map(|zeros| {
        let dims: &[usize] = if zeros.len() == 1 { &[] } else { &[outputs] };
        add(tensor(dims, zeros, signed[1]))
    });
    let (x_id, zero) = (b.given(tensor(&image, &x, signed[0])), b.given(tensor(&[], &x_zero, signed[0])));
    let conv = Conv {
        layout: ImageLayout::ChannelsLast,
        strides: vec![1; kernel.len()],
        dilations: vec![1; kernel.len()],
        groups,
        padding: Padding::Explicit { begin: vec![1; kernel.len()], end: vec![0; kernel.len()] },
        fusion: Fusion::default(),
    };
    let op = Operator::ConvInteger(ConvInteger { conv });
    let y = b.nodes(op, vec![Some(x_id), Some(w_id), Some(zero), w_zero], 1)[0];
    let x_zero = values(&x_zero, signed[0])[0];
    let centred: Vec<i32> = values(&x, signed[0]).iter().map(|x| x - x_zero).collect();
    let of_weights = values(w_zeros.unwrap_or(&[0]), signed[1]);
    let w_zero = |channel: usize| of_weights[channel % of_weights.len()];
    let [kh, kw] = two(kernel);
    let out = if kernel.len() == 1 { [1, SIZE + 2 - kw] } else { [SIZE + 2 - kh, SIZE + 2 - kw] };
    let expected = naive(case, &centred, &values(&w, signed[1]), w_zero, out);
    b.check(&[(y, expected)], Tolerance::Exact)
}

#[test]
fn integer_convolutions() {
    let forms: [([usize; 3], &'static [usize]); 6] = [
        ([5, 7, 1], &[3, 3]),
        ([8, 20, 1], &[1, 1]),
        ([6, 8, 2], &[2, 3]),
        ([9, 9, 9], &[3, 3]),
        ([5, 6, 1], &[3]),
        ([4, 4, 4], &[2]),
    ];
    let variants = [
        ([false, false], Zeros::One, true),
        ([false, true], Zeros::None, true),
        ([true, false], Zeros::EachChannel, true),
        ([true, true], Zeros::One, true),
        ([false, true], Zeros::EachChannel, false),
        ([true, false], Zeros::None, false),
    ];
    let cases = forms.into_iter().flat_map(|(channels, kernel)| {
        variants.map(|(signed, zeros, constant)| Case { channels, kernel, signed, zeros, constant })
    });
    each_case(cases, check);
}
