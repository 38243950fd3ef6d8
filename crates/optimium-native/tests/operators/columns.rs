//! Parts of rows: joined, cut and padded along the last axis, between layers that can handle it and such that cannot.

use optimium_graph::ops::{
    Binary, Concat, Conv, CoordinateMode, Fusion, ImageLayout, MaxPool, NearestMode, Pad, PadMode, Padding,
    PoolWindow, Reshape, Resize, ResizeMode, Slice, SliceRange, Split, Unary,
};
use optimium_graph::{Operator, ValueId};
use optimium_tensor::Expr;
use optimium_testing::{Random, Tolerance, each_case};

use super::harness::{Builder, Expected, map};

/// Height and width of all images.
const SIZE: [usize; 2] = [2, 3];

/// An image with channels last, and what it must hold.
#[derive(Clone)]
struct Image {
    id: ValueId,
    channels: usize,
    values: Vec<f32>,
}

impl Image {
    fn expected(&self) -> Expected {
        (self.id, self.values.clone())
    }

    fn dims(&self) -> Vec<usize> {
        vec![1, SIZE[0], SIZE[1], self.channels]
    }

    fn with(&self, id: ValueId, values: Vec<f32>) -> Image {
        Image { id, channels: self.channels, values }
    }

    /// The channels of every pixel.
    fn pixels(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.channels)
    }
}

fn image(b: &mut Builder, channels: usize) -> Image {
    let (id, values) = b.random(&[1, SIZE[0], SIZE[1], channels]);
    Image { id, channels, values }
}

/// The same image, written by a layer that can write columns.
fn copied(b: &mut Builder, x: &Image) -> Image {
    let window = PoolWindow {
        layout: ImageLayout::ChannelsLast,
        kernel: vec![1, 1],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        padding: Padding::Valid,
        ceil_mode: false,
    };
    x.with(b.node(Operator::MaxPool(MaxPool { window, column_major: false }), &[x.id]), x.values.clone())
}

/// The same image by a resize.
fn resized(b: &mut Builder, x: &Image) -> Image {
    let op = Resize {
        axes: None,
        mode: ResizeMode::Nearest(NearestMode::Floor),
        coordinates: CoordinateMode::Asymmetric,
        exclude_outside: false,
        extrapolation_value: 0.0,
        antialias: false,
        keep_aspect_ratio: 0,
    };
    let scales = b.constant(&[4], &[1.0f32; 4]);
    let id = b.nodes(Operator::Resize(op), vec![Some(x.id), None, Some(scales)], 1)[0];
    x.with(id, x.values.clone())
}

/// By a layer that knows no columns.
fn negated(b: &mut Builder, x: &Image) -> Image {
    x.with(b.unary(Unary::Neg, x.id), map(&x.values, |x| -x))
}

/// A convolution of one pixel, dense or of every channel alone, with another image to be added.
fn convolved(b: &mut Builder, x: &Image, channels: usize, depthwise: bool, added: Option<&Image>) -> Image {
    let channels = added.map_or(channels, |added| added.channels);
    let groups = if depthwise && channels == x.channels { channels } else { 1 };
    let inputs = x.channels / groups;
    let (weights, w) = b.weights(&[channels, inputs, 1, 1]);
    let (bias, c) = b.weights(&[channels]);
    let op = Conv {
        layout: ImageLayout::ChannelsLast,
        strides: vec![1, 1],
        dilations: vec![1, 1],
        groups,
        padding: Padding::Valid,
        fusion: Fusion::default(),
    };
    let operands = vec![Some(x.id), Some(weights), Some(bias), added.map(|added| added.id)];
    let id = b.nodes(Operator::Conv(op), operands, 1)[0];
    let mut values = Vec::new();
    for (pixel, x) in x.pixels().enumerate() {
        for o in 0..channels {
            let first = if groups > 1 { o } else { 0 };
            let products = (0..inputs).map(|i| x[first + i] * w[o * inputs + i]);
            let more = added.map_or(0.0, |added| added.values[pixel * channels + o]);
            values.push(products.sum::<f32>() + c[o] + more);
        }
    }
    Image { id, channels, values }
}

fn joined(b: &mut Builder, parts: &[&Image]) -> Image {
    let ids: Vec<ValueId> = parts.iter().map(|part| part.id).collect();
    let id = b.node(Operator::Concat(Concat { axis: 3 }), &ids);
    let mut values = Vec::new();
    for pixel in 0..SIZE[0] * SIZE[1] {
        parts.iter().for_each(|part| values.extend(&part.values[pixel * part.channels..][..part.channels]));
    }
    Image { id, channels: parts.iter().map(|part| part.channels).sum(), values }
}

fn channels_of(x: &Image, id: ValueId, first: usize, count: usize) -> Image {
    let values = x.pixels().flat_map(|pixel| pixel[first..first + count].to_vec()).collect();
    Image { id, channels: count, values }
}

fn sliced(b: &mut Builder, x: &Image, first: usize, count: usize) -> Image {
    let range = SliceRange { axis: 3, start: first.into(), count: count.into(), step: 1 };
    let id = b.node(Operator::Slice(Slice { ranges: Some(vec![range]) }), &[x.id]);
    channels_of(x, id, first, count)
}

fn halves(b: &mut Builder, x: &Image) -> [Image; 2] {
    let first = x.channels / 2;
    let sizes = [first, x.channels - first];
    let known = Some(sizes.iter().map(|&size| Expr::from(size)).collect());
    let ids = b.nodes(Operator::Split(Split { axis: -1, sizes: known }), vec![Some(x.id)], 2);
    [channels_of(x, ids[0], 0, sizes[0]), channels_of(x, ids[1], first, sizes[1])]
}

fn padded(b: &mut Builder, x: &Image, before: usize, after: usize) -> Image {
    let mut pads = vec![(Expr::from(0usize), Expr::from(0usize)); 3];
    pads.push((before.into(), after.into()));
    let id = b.node(Operator::Pad(Pad { mode: PadMode::Constant, pads: Some(pads) }), &[x.id]);
    let wide = |pixel: &[f32]| [vec![0.0; before], pixel.to_vec(), vec![0.0; after]].concat();
    let values = x.pixels().flat_map(wide).collect();
    Image { id, channels: before + x.channels + after, values }
}

/// With the pixels in one line, and back.
fn reshaped(b: &mut Builder, x: &Image) -> Image {
    let mut id = x.id;
    for dims in [vec![1, SIZE[0] * SIZE[1], x.channels], x.dims()] {
        let dims = Some(dims.iter().map(|&dim| Expr::from(dim)).collect());
        id = b.node(Operator::Reshape(Reshape { dims, allow_zero: true }), &[id]);
    }
    x.with(id, x.values.clone())
}

fn sum(b: &mut Builder, x: &Image) -> Image {
    x.with(b.binary(Binary::Add, x.id, x.id), map(&x.values, |x| x + x))
}

/// What a table's case makes.
type Build = fn(&mut Builder) -> Vec<Image>;

/// Networks, and how many steps they take: a part is copied where its layer reads the whole that it would write to, or where
/// a reader knows no columns.
fn networks() -> [(&'static str, usize, Build); 9] {
    [
        ("every layer reads what all before it gave", 10, |b| {
            let x = image(b, 5);
            let mut parts = vec![copied(b, &x)];
            for _ in 0..4 {
                let all = joined(b, &parts.iter().collect::<Vec<_>>());
                let next = convolved(b, &all, 4, false, None);
                parts.push(convolved(b, &next, 3, false, None));
            }
            let all = joined(b, &parts.iter().collect::<Vec<_>>());
            vec![convolved(b, &all, 7, false, None)]
        }),
        ("each whole is part of the next", 11, |b| {
            let x = image(b, 3);
            let mut all = copied(b, &x);
            for _ in 0..4 {
                let next = convolved(b, &all, 2, false, None);
                all = joined(b, &[&all, &next]);
            }
            vec![convolved(b, &all, 6, false, None), negated(b, &all)]
        }),
        ("halves, one of which goes on", 4, |b| {
            let x = image(b, 6);
            let y = convolved(b, &x, 32, false, None);
            let [left, right] = halves(b, &y);
            let inner = convolved(b, &right, 16, false, None);
            let next = convolved(b, &inner, 16, false, Some(&right));
            let all = joined(b, &[&left, &right, &next]);
            vec![convolved(b, &all, 5, false, None)]
        }),
        ("pools of pools", 5, |b| {
            let x = image(b, 4);
            let mut parts = vec![convolved(b, &x, 5, false, None)];
            for _ in 0..3 {
                let next = copied(b, &parts[parts.len() - 1]);
                parts.push(next);
            }
            let all = joined(b, &parts.iter().collect::<Vec<_>>());
            vec![convolved(b, &all, 5, false, None)]
        }),
        ("an upsampled image beside another", 3, |b| {
            let (x, z) = (image(b, 4), image(b, 3));
            let (x, z) = (resized(b, &x), convolved(b, &z, 5, false, None));
            let all = joined(b, &[&x, &z]);
            vec![convolved(b, &all, 9, false, None)]
        }),
        ("wider with zeros, to be added", 6, |b| {
            let x = image(b, 4);
            let y = convolved(b, &x, 20, true, None);
            let wide = padded(b, &y, 0, 4);
            let deep = convolved(b, &y, 20, true, None);
            let z = convolved(b, &deep, 24, false, Some(&wide));
            let far = padded(b, &y, 1, 2);
            vec![z, convolved(b, &far, 3, false, None)]
        }),
        ("readers that know no columns", 7, |b| {
            let x = image(b, 4);
            let (y, z) = (convolved(b, &x, 3, false, None), convolved(b, &x, 2, false, None));
            let all = joined(b, &[&y, &z, &y]);
            let (again, part) = (negated(b, &y), sliced(b, &all, 1, 4));
            let part = negated(b, &part);
            vec![again, part, convolved(b, &all, 3, false, None)]
        }),
        ("views between", 4, |b| {
            let x = image(b, 4);
            let (y, z) = (convolved(b, &x, 3, false, None), convolved(b, &x, 2, false, None));
            let (y, z) = (reshaped(b, &y), reshaped(b, &z));
            let all = joined(b, &[&y, &z]);
            let part = sliced(b, &all, 2, 3);
            let part = reshaped(b, &part);
            vec![convolved(b, &part, 3, true, None), convolved(b, &all, 3, false, None)]
        }),
        ("outputs", 5, |b| {
            let x = image(b, 4);
            let (y, z) = (copied(b, &x), convolved(b, &x, 2, false, None));
            let all = joined(b, &[&y, &z]);
            let [left, right] = halves(b, &all);
            vec![y, all, left, convolved(b, &right, 2, false, None)]
        }),
    ]
}

#[test]
fn results() {
    each_case(networks(), |(_, _, build)| {
        let mut builder = Builder::new();
        let images = build(&mut builder);
        let expected: Vec<Expected> = images.iter().map(Image::expected).collect();
        builder.check(&expected, Tolerance::Relative(1e-5))
    });
}

#[test]
fn steps() {
    each_case(networks(), |(_, count, build)| {
        let mut builder = Builder::new();
        let outputs: Vec<ValueId> = build(&mut builder).iter().map(|image| image.id).collect();
        let run = builder.operators_run(&outputs).map_err(|error| error.to_string())?;
        if run.len() == *count { Ok(()) } else { Err(format!("{run:?}")) }
    });
}

/// Graphs that nobody would write.
#[test]
fn networks_by_chance() {
    each_case(0..60u64, |&seed| {
        let mut random = Random::new(seed);
        let mut b = Builder::new();
        let mut images = vec![image(&mut b, 4), image(&mut b, 16)];
        for _ in 0..random.range(4, 14) {
            let mut pick = || images[random.range(0, images.len() as i64) as usize].clone();
            let (x, y, z) = (pick(), pick(), pick());
            let next = match random.range(0, 12) {
                0 => copied(&mut b, &x),
                1 => resized(&mut b, &x),
                2 => negated(&mut b, &x),
                3 => convolved(&mut b, &x, y.channels.min(20), false, None),
                4 => convolved(&mut b, &x, x.channels, true, None),
                5 if x.channels < 40 => convolved(&mut b, &y, 0, false, Some(&x)),
                6 => reshaped(&mut b, &x),
                7 if x.channels < 40 => padded(&mut b, &x, random.range(0, 2) as usize, 3),
                8 => sliced(&mut b, &x, x.channels / 3, x.channels - x.channels / 3),
                9 if x.channels > 1 => halves(&mut b, &x)[1].clone(),
                _ if x.channels + y.channels + z.channels < 60 => joined(&mut b, &[&x, &y, &z]),
                _ => sum(&mut b, &x),
            };
            images.push(next);
        }
        let last = images.len() - 1;
        let chosen = [&images[last], &images[last - 1], &images[last / 2 + 1]];
        let mut outputs: Vec<Expected> = Vec::new();
        for image in chosen {
            if !outputs.iter().any(|(id, _)| *id == image.id) {
                outputs.push(image.expected());
            }
        }
        b.check(&outputs, Tolerance::Relative(1e-4))
    });
}
