//! Images read between their pixels, narrow types, bits, and attention with a state.

use optimium_graph::Operator;
use optimium_graph::ops::{
    Cast, CumSum, DeformableColumns, GridSample, LinearAttention, NarrowCast, PowerRounding, RoiAlign,
    SampleMode, SamplePadding,
};
use optimium_tensor::{ElementType, ErrorKind, Tensor};
use optimium_testing::{Tolerance, each_case};

use super::harness::{Builder, ROUNDED, check, ways};

fn grid(mode: SampleMode) -> Operator {
    Operator::GridSample(GridSample { mode, padding: SamplePadding::Zeros, align_corners: true })
}

fn roi(samples: usize) -> Operator {
    let (max, half_pixel) = (false, true);
    Operator::RoiAlign(RoiAlign { max, half_pixel, rows: 1, columns: 2, samples, scale: 1.0 })
}

#[test]
fn sampled() {
    check(
        ROUNDED,
        [
            ("at its own pixels", |b| {
                let (x, values) = b.random(&[1, 2, 2, 3]);
                let points = [-1.0f32, -1.0, 0.0, -1.0, 1.0, -1.0, -1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
                let points = b.input(&[1, 2, 3, 2], &points);
                let nearest = b.node(grid(SampleMode::Nearest), &[x, points]);
                let linear = b.node(grid(SampleMode::Linear), &[x, points]);
                vec![(nearest, values.clone()), (linear, values)]
            }),
            ("in regions", |b| {
                let image: Vec<f32> = (0..16).map(|i| (i % 4) as f32).collect();
                let x = b.input(&[1, 1, 4, 4], &image);
                let regions = b.input(&[1, 4], &[1.0f32, 1.0, 3.0, 3.0]);
                let images = b.input(&[1], &[0i64]);
                vec![(b.node(roi(2), &[x, regions, images]), vec![1.0, 2.0])]
            }),
            ("under taps that do not move", |b| {
                let x = b.input(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
                let offsets = b.input(&[1, 4, 2, 1], &[0.0f32; 8]);
                let op = DeformableColumns {
                    kernel: [1, 2],
                    strides: [1, 1],
                    dilations: [1, 1],
                    padding: [0, 0],
                    groups: 1,
                };
                let y = b.node(Operator::DeformableColumns(op), &[x, offsets]);
                vec![(y, vec![1.0, 3.0, 2.0, 4.0])]
            }),
        ],
    );
}

#[test]
fn stored_in_few_bits() {
    check(
        Tolerance::Exact,
        [
            ("and back", |b| {
                let x = b.input(&[5], &[0.3f32, 1e9, -7.1, 3.0, 0.0]);
                let (saturate, rounding) = (true, PowerRounding::Up);
                let narrow = |to| Operator::NarrowCast(NarrowCast { to, saturate, rounding });
                let back = |to| Operator::Cast(Cast { to });
                let eight = b.node(narrow(ElementType::F8E4M3FN), &[x]);
                let eight = b.node(back(ElementType::F32), &[eight]);
                let four = b.node(narrow(ElementType::F4E2M1), &[x]);
                let four = b.node(back(ElementType::F16), &[four]);
                let integers = b.node(narrow(ElementType::I4), &[x]);
                let integers = b.node(back(ElementType::I64), &[integers]);
                vec![
                    (eight, vec![0.3125, 448.0, -7.0, 3.0, 0.0]),
                    (four, vec![0.5, 6.0, -6.0, 3.0, 0.0]),
                    (integers, vec![0.0, 0.0, -7.0, 3.0, 0.0]),
                ]
            }),
            ("from other types", |b| {
                let x = b.input(&[3], &[2i64, 15, 16]);
                let half = b.given(
                    Tensor::from_slice(&[2], &[1.0f32, 2.5].map(half::f16::from_f32)).expect("they fit"),
                );
                let narrow = |to| {
                    Operator::NarrowCast(NarrowCast { to, saturate: false, rounding: PowerRounding::Up })
                };
                let back = Operator::Cast(Cast { to: ElementType::F32 });
                let four = b.node(narrow(ElementType::U4), &[x]);
                let eight = b.node(narrow(ElementType::F8E5M2), &[half]);
                vec![
                    (b.node(back.clone(), &[four]), vec![2.0, 15.0, 0.0]),
                    (b.node(back, &[eight]), vec![1.0, 2.5]),
                ]
            }),
            ("as other bits", |b| {
                let x = b.input(&[2], &[1.0f32, -0.0]);
                let bits = b.node(Operator::BitCast { to: ElementType::I32 }, &[x]);
                let again = b.node(Operator::BitCast { to: ElementType::F32 }, &[bits]);
                vec![(bits, vec![0x3f80_0000 as f32, i32::MIN as f32]), (again, vec![1.0, -0.0])]
            }),
            ("multiplied so far", |b| {
                let x = b.input(&[2, 2], &[1i32, 2, 3, 4]);
                let op = CumSum { axis: Some(1), exclusive: false, reverse: true, product: true };
                vec![(b.node(Operator::CumSum(op), &[x]), vec![2.0, 2.0, 12.0, 4.0])]
            }),
        ],
    );
}

#[test]
fn states_are_carried() {
    check(
        ROUNDED,
        [("by one head", |b| {
            // One element a key: the state is a row, read as it is written.
            let q = b.input(&[1, 3, 2], &[1.0f32, 2.0, 1.0, 2.0, 1.0, 2.0]);
            let k = b.input(&[1, 3, 1], &[1.0f32, 1.0, 2.0]);
            let v = b.input(&[1, 3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let rate = b.input(&[1, 3, 1], &[1.0f32, 0.5, 0.5]);
            let op =
                Operator::LinearAttention(LinearAttention { query_heads: 2, heads: 1, scale: Some(1.0) });
            let plain = b.nodes(op.clone(), [q, k, v].map(Some).to_vec(), 2);
            let inputs = vec![Some(q), Some(k), Some(v), None, None, Some(rate)];
            let corrected = b.nodes(op, inputs, 2);
            vec![
                (plain[0], vec![1.0, 2.0, 2.0, 4.0, 4.0, 6.0, 8.0, 12.0, 14.0, 18.0, 28.0, 36.0]),
                (plain[1], vec![14.0, 18.0]),
                (corrected[1], vec![3.0, 3.0]),
            ]
        })],
    );
}

#[test]
fn regions_of_no_image_are_errors() {
    let wrong = [([1.0f32, 1.0, 3.0, 3.0], 1i64), ([1.0, 1.0, 3.0, 3.0], -1), ([0.0, 0.0, 1e30, 1.0], 0)];
    each_case(wrong, |&(region, image)| {
        for options in ways() {
            let mut b = Builder::new();
            let (x, _) = b.random(&[1, 1, 4, 4]);
            let (regions, images) = (b.input(&[1, 4], &region), b.input(&[1], &[image]));
            let y = b.node(roi(0), &[x, regions, images]);
            match b.failure(y, &options) {
                Some(error) if error.kind() == ErrorKind::Infer => {}
                other => return Err(format!("{options:?}: {other:?}")),
            }
        }
        Ok(())
    });
}
