//! Random graphs with attributes and shapes that no exporter writes: inference gives a result or an error.

use optimium_tensor::{ElementType, Expr, Tensor, TensorShape};
use optimium_testing::Random;

use super::infer;
use super::testing::add;
use crate::ops::{
    Binary, Cast, Comparison, Concat, ConstantOfShape, Conv, ConvTranspose, CoordinateMode, DepthToSpace,
    Expand, Flatten, Fusion, Gather, GatherNd, ImageLayout, MatMul, MaxPool, OneHot, Pad, PadMode, Padding,
    PoolWindow, Range, Reduce, Reduction, Reshape, Resize, ResizeMode, ReverseSequence, ScatterNd,
    ScatterReduction, Shape, Slice, SliceRange, Split, Squeeze, Tile, TopK, Transpose, Trilu, Unary,
    Unsqueeze,
};
use crate::{Graph, Operator, ValueId};

const NUMBERS: [i64; 12] = [0, 1, -1, 2, 3, 4, -2, 7, i64::MAX, i64::MIN, i32::MAX as i64, 1 << 40];

struct Source(Random);

impl Source {
    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.range(0, all.len() as i64) as usize]
    }
    /// Small numbers mostly, so that more than the first check is reached.
    fn number(&mut self) -> i64 {
        if self.0.range(0, 3) > 0 { self.0.range(-2, 4) } else { self.pick(&NUMBERS) }
    }
    fn size(&mut self) -> usize {
        if self.0.range(0, 4) > 0 {
            self.0.range(0, 3) as usize
        } else {
            self.pick(&[0, 1, 5, 1 << 40, usize::MAX])
        }
    }
    fn flag(&mut self) -> bool {
        self.0.range(0, 2) == 1
    }
    fn numbers(&mut self) -> Vec<i64> {
        (0..self.0.range(0, 5)).map(|_| self.number()).collect()
    }
    fn sizes(&mut self) -> Vec<usize> {
        (0..self.0.range(1, 3)).map(|_| self.size()).collect()
    }
    fn expr(&mut self) -> Expr {
        match self.0.range(0, 4) {
            0 => Expr::symbol(self.pick(&["N", "T", "H"])),
            1 => Expr::symbol("N") - Expr::from(self.number()),
            _ => self.number().into(),
        }
    }
    fn exprs(&mut self) -> Vec<Expr> {
        (0..self.0.range(0, 5)).map(|_| self.expr()).collect()
    }
    fn layout(&mut self) -> ImageLayout {
        self.pick(&[ImageLayout::ChannelsFirst, ImageLayout::ChannelsLast])
    }
    fn padding(&mut self) -> Padding {
        match self.0.range(0, 4) {
            0 => Padding::SameUpper,
            1 => Padding::Valid,
            _ => Padding::Explicit { begin: self.sizes(), end: self.sizes() },
        }
    }
    fn axes(&mut self) -> Option<Vec<i64>> {
        self.flag().then(|| self.numbers())
    }
    fn dims(&mut self) -> Option<Vec<Expr>> {
        self.flag().then(|| self.exprs())
    }

    fn spatial(&mut self) -> Operator {
        let (layout, strides, dilations, padding) =
            (self.layout(), self.sizes(), self.sizes(), self.padding());
        let fusion = Fusion::default();
        match self.0.range(0, 5) {
            0 => Operator::Conv(Conv { layout, strides, dilations, groups: self.size(), padding, fusion }),
            1 => Operator::ConvTranspose(ConvTranspose {
                layout,
                strides,
                dilations,
                groups: self.size(),
                padding,
                output_padding: self.sizes(),
                output_shape: self.flag().then(|| self.sizes()),
                fusion,
            }),
            2 => {
                let (kernel, ceil_mode) = (self.sizes(), self.flag());
                let window = PoolWindow { layout, kernel, strides, dilations, padding, ceil_mode };
                Operator::MaxPool(MaxPool { window, column_major: false })
            }
            3 => Operator::Resize(Resize {
                axes: self.axes(),
                mode: ResizeMode::Linear,
                coordinates: CoordinateMode::HalfPixel,
                exclude_outside: false,
                extrapolation_value: 0.0,
                antialias: false,
                keep_aspect_ratio: self.pick(&[0, 1, 2, 99]),
            }),
            _ => Operator::DepthToSpace(DepthToSpace { layout, block: self.size(), column_row_depth: false }),
        }
    }

    fn shaping(&mut self) -> Operator {
        let element_type = ElementType::I64;
        match self.0.range(0, 12) {
            0 => Operator::Reshape(Reshape { dims: self.dims(), allow_zero: self.flag() }),
            1 => Operator::Flatten(Flatten { axis: self.number() }),
            2 => Operator::Squeeze(Squeeze { axes: self.axes() }),
            3 => Operator::Unsqueeze(Unsqueeze { axes: self.axes() }),
            4 => Operator::Transpose(Transpose { permutation: self.sizes() }),
            5 => Operator::Expand(Expand { dims: self.dims() }),
            6 => Operator::Tile(Tile { repeats: self.dims() }),
            7 => {
                let pads = self.dims().map(|dims| dims.into_iter().map(|dim| (dim.clone(), dim)).collect());
                Operator::Pad(Pad { mode: PadMode::Edge, pads })
            }
            8 => Operator::Shape(Shape { start: self.number(), end: self.flag().then(|| self.number()) }),
            9 => {
                let bounds = self.flag().then(|| [self.expr(), self.expr(), self.expr()]);
                Operator::Range(Range { element_type, bounds })
            }
            10 => Operator::Reduce(Reduce {
                reduction: self.pick(&[Reduction::Sum, Reduction::Prod, Reduction::Max]),
                axes: self.axes(),
                keep_dims: self.flag(),
                noop_with_empty_axes: self.flag(),
            }),
            _ => {
                let value = vec![1; self.pick(&[0, 1, 8])];
                Operator::ConstantOfShape(ConstantOfShape { dims: self.dims(), element_type, value })
            }
        }
    }

    fn indexing(&mut self) -> Operator {
        let axis = self.number();
        match self.0.range(0, 11) {
            0 => Operator::Concat(Concat { axis }),
            1 => Operator::Split(Split { axis, sizes: self.dims() }),
            2 => {
                let count = self.0.range(0, 3);
                let range = |source: &mut Source| SliceRange {
                    axis: source.size(),
                    start: source.expr(),
                    count: source.expr(),
                    step: source.number(),
                };
                let ranges = self.flag().then(|| (0..count).map(|_| range(self)).collect());
                Operator::Slice(Slice { ranges })
            }
            3 => Operator::Gather(Gather { axis }),
            4 => Operator::GatherNd(GatherNd { batch_dims: self.size() }),
            5 => Operator::TopK(TopK {
                axis,
                largest: true,
                sorted: true,
                k: self.flag().then(|| self.expr()),
            }),
            6 => Operator::OneHot(OneHot { axis, depth: self.flag().then(|| self.expr()) }),
            7 => Operator::Trilu(Trilu { upper: true, k: self.flag().then(|| self.number()) }),
            8 => {
                Operator::ReverseSequence(ReverseSequence { batch_axis: self.size(), time_axis: self.size() })
            }
            9 => Operator::ScatterNd(ScatterNd { reduction: ScatterReduction::None }),
            _ => Operator::NonZero,
        }
    }

    fn arithmetic(&mut self) -> Operator {
        use Binary::{Add, Div, Fmod, Max, Min, Mod, Mul, Pow, Sub};
        match self.0.range(0, 8) {
            0 => Operator::Cast(Cast { to: self.pick(&ElementType::ALL) }),
            1 => Operator::Comparison { function: self.pick(&[Comparison::Equal, Comparison::Less]) },
            2 => Operator::Where,
            3 => {
                Operator::Unary { function: self.pick(&[Unary::Neg, Unary::Abs, Unary::Floor, Unary::Ceil]) }
            }
            4 => Operator::MatMul(MatMul {
                transpose_a: self.flag(),
                transpose_b: self.flag(),
                alpha: 1.0,
                fusion: Fusion::default(),
            }),
            _ => Operator::Binary { function: self.pick(&[Add, Sub, Mul, Div, Mod, Fmod, Min, Max, Pow]) },
        }
    }

    fn operator(&mut self) -> Operator {
        match self.0.range(0, 5) {
            0 => self.spatial(),
            1 => self.shaping(),
            2 => self.indexing(),
            _ => self.arithmetic(),
        }
    }

    fn value(&mut self, graph: &mut Graph) -> ValueId {
        let name = format!("v{}", graph.values().len());
        let numbers = self.numbers();
        let constant = match self.0.range(0, 6) {
            0 | 1 => Tensor::from_slice(&[numbers.len()], &numbers).unwrap(),
            2 => Tensor::scalar(self.number()).unwrap(),
            3 => Tensor::from_slice(&[4], &[1.0f32, 0.3, -2.5, 1e18]).unwrap(),
            _ => {
                let element_type = self.pick(&[ElementType::F32, ElementType::I64, ElementType::Bool]);
                let id = graph.add_tensor(name, element_type, Some(TensorShape::new(self.exprs())));
                graph.inputs.push(id);
                return id;
            }
        };
        graph.add_constant(name, constant)
    }
}

#[test]
fn random_graphs_never_panic() {
    let mut source = Source(Random::new(7));
    let mut succeeded = 0;
    for _ in 0..20_000 {
        let mut graph = Graph::new("hostile");
        let mut values: Vec<ValueId> = (0..6).map(|_| source.value(&mut graph)).collect();
        for _ in 0..4 {
            let count = source.0.range(0, 5);
            let inputs =
                (0..count).map(|_| (source.0.range(0, 8) > 0).then(|| source.pick(&values))).collect();
            let (op, outputs) = (source.operator(), source.0.range(0, 3) as usize);
            values.extend(add(&mut graph, op, inputs, outputs));
            let before = graph.clone();
            // What fails is dropped, so that the next operator sees results.
            match infer(&mut graph) {
                Ok(()) => succeeded += 1,
                Err(_) => {
                    graph = before;
                    let node = graph.nodes_mut().pop();
                    values.retain(|id| node.iter().all(|node| !node.outputs.contains(&Some(*id))));
                }
            }
        }
    }
    assert!(succeeded > 1000, "{succeeded} operators were accepted");
}
