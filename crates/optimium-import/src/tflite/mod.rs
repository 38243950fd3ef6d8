//! The reader of TFLite models.
//!
//! The data flow: bytes → checked tables (`flatbuffer`) → every tensor of the first subgraph becomes a value
//! (`tensor`) → every operator is lowered by its reader function (`ops::find`), which works with an
//! `operator::OperatorReader`. TFLite's images have their channels last, and so have the lowered operators
//! ([`ImageLayout::ChannelsLast`](optimium_graph::ops::ImageLayout)); constant weights are transposed to ONNX's
//! order. An activation that is fused in the file becomes a node of its own, which simplification fuses again.

mod builtin;
mod flatbuffer;
mod lowering;
mod operator;
mod ops;
mod tensor;
#[cfg(test)]
mod testing;
mod transpose;

use optimium_graph::Graph;
use optimium_tensor::{Error, Result};

use flatbuffer::{Budget, Table};

/// The file format's identifier, behind the offset of the root table.
const IDENTIFIER: &[u8] = b"TFL3";

/// Reads a model from the bytes of a `.tflite` file; `name` becomes the graph's name.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where the model is damaged;
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented), with everything that is unsupported.
pub fn read(bytes: &[u8], name: &str) -> Result<Graph> {
    if !has_identifier(bytes) {
        return Err(Error::model("this is not a TFLite model: it does not say so"));
    }
    let budget = Budget::new(bytes.len());
    lowering::lower(bytes, Table::root(bytes, &budget)?, name)
}

/// Whether the bytes begin as a TFLite model does.
pub(crate) fn has_identifier(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(IDENTIFIER)
}

#[cfg(test)]
mod tests {
    use super::testing::{Field, Fields, TestTensor, float, floats, integers, model};
    use super::*;
    use optimium_graph::ops::{
        Activation, Binary, Conv, CoordinateMode, Fusion, ImageLayout, Operator, Pad, PadMode, Padding,
        Reduce, Reduction, Resize, ResizeMode, Softmax,
    };
    use optimium_tensor::{ElementType, Expr};

    fn strides(first: usize) -> Fields {
        vec![(first, Field::I32(2)), (first + 1, Field::I32(1))]
    }

    fn convolution(groups: usize) -> Operator {
        Operator::Conv(Conv {
            layout: ImageLayout::ChannelsLast,
            strides: vec![1, 2],
            dilations: vec![1, 1],
            groups,
            padding: Padding::SameUpper,
            fusion: Fusion::default(),
        })
    }

    /// A model of one operator, and the operators that it becomes.
    #[derive(Debug)]
    struct Case(i32, Fields, Vec<TestTensor>, Vec<Operator>);

    #[test]
    fn operators_become_what_they_mean() {
        let image = || float(&[1, 4, 4, 2]);
        let mut fused = strides(1);
        fused.push((3, Field::I8(3)));
        let relu6 = Activation::Clip { low: Some(0.0), high: Some(6.0) };
        let resize = Resize {
            axes: Some(vec![1, 2]),
            mode: ResizeMode::Linear,
            coordinates: CoordinateMode::HalfPixel,
            exclude_outside: false,
            extrapolation_value: 0.0,
            antialias: false,
            keep_aspect_ratio: 0,
        };
        let mean = Reduce {
            reduction: Reduction::Mean,
            axes: Some(vec![1, 2]),
            keep_dims: true,
            noop_with_empty_axes: true,
        };
        let pads =
            [(0, 0), (1, 2)].map(|(before, after): (i64, i64)| (Expr::from(before), Expr::from(after)));
        let pad = Pad { mode: PadMode::Constant, pads: Some(pads.to_vec()) };
        let weights = || floats(&[3, 1, 1, 2], &[0.0; 6]);
        let cases = [
            Case(3, strides(1), vec![image(), weights(), image()], vec![convolution(1)]),
            Case(
                3,
                fused,
                vec![image(), weights(), image()],
                vec![convolution(1), Operator::Activation { function: relu6 }],
            ),
            Case(
                4,
                strides(1),
                vec![image(), floats(&[1, 1, 1, 4], &[0.0; 4]), image()],
                vec![convolution(2)],
            ),
            Case(
                23,
                vec![(3, Field::I8(1))],
                vec![image(), integers(&[2], &[8, 8]), image()],
                vec![Operator::Resize(resize)],
            ),
            Case(
                40,
                vec![(0, Field::I8(1))],
                vec![image(), integers(&[2], &[1, 2]), image()],
                vec![Operator::Reduce(mean)],
            ),
            Case(
                34,
                vec![],
                vec![float(&[2, 2]), integers(&[2, 2], &[0, 0, 1, 2]), float(&[2, 5])],
                vec![Operator::Pad(pad)],
            ),
            Case(
                25,
                vec![(0, Field::F32(2.0))],
                vec![image(), image()],
                vec![
                    Operator::Binary { function: Binary::Mul },
                    Operator::Softmax(Softmax { axis: -1, log: false, flatten: false }),
                ],
            ),
            Case(
                14,
                vec![],
                vec![image(), image()],
                vec![Operator::Activation { function: Activation::Sigmoid }],
            ),
        ];
        optimium_testing::each_case(cases, |Case(code, options, tensors, expected)| {
            let graph = read(&model(*code, options.clone(), tensors), "test")
                .map_err(|error| format!("{error:?}"))?;
            let actual: Vec<Operator> = graph.nodes().iter().map(|node| node.op.clone()).collect();
            if actual == *expected { Ok(()) } else { Err(format!("it became {actual:?}")) }
        });
    }

    #[test]
    fn weights_are_transposed_with_their_scheme() {
        let quantized = |dims: &[i32], content: Vec<u8>, scales: &[f32], axis| TestTensor {
            element_type: 9,
            content,
            quantization: Some((scales.to_vec(), vec![0; scales.len()], axis)),
            ..float(dims)
        };
        let x = quantized(&[1, 4, 4, 2], vec![], &[0.5], 0);
        let weights = quantized(&[1, 1, 2, 2], (0..4).collect(), &[0.5, 0.25], 3);
        let graph = read(&model(4, strides(1), &[x.clone(), weights, x]), "test").unwrap();
        let weights = graph.node(optimium_graph::NodeId::from_index(0)).input(1).unwrap();
        let tensor = graph.constant(weights).unwrap();
        assert_eq!((tensor.element_type(), tensor.dims()), (ElementType::QS8, &[2, 1, 1, 2][..]));
        assert_eq!(&tensor.read::<i8>().unwrap()[..], [0, 2, 1, 3]);
        assert_eq!(tensor.scheme().unwrap().axis(), Some(0));
        let input = graph.value(graph.inputs[0]);
        assert_eq!(input.element_type(), Some(ElementType::QS8));
        assert_eq!(input.scheme.as_ref().unwrap().params()[0].scale, 0.5);
    }

    #[test]
    fn open_dimensions_become_symbols() {
        let bytes = model(14, vec![], &[float(&[-1, 4]), float(&[-1, 4])]);
        let graph = read(&bytes, "test").unwrap();
        assert_eq!(graph.value(graph.inputs[0]).shape().unwrap().to_string(), "[t0_dim_0, 4]");
        assert_eq!(graph.value(graph.outputs[0]).shape(), None);
    }

    #[test]
    fn unknown_operators_are_reported_by_name() {
        let error = read(&model(120, vec![], &[float(&[2]), float(&[2])]), "test").unwrap_err();
        assert!(error.message().contains("NON_MAX_SUPPRESSION_V4"), "{error:?}");
    }

    #[test]
    fn damaged_models_never_panic() {
        let mut quantized = floats(&[1, 1, 1, 4], &[0.0; 4]);
        quantized.element_type = 2;
        quantized.quantization = Some((vec![1.0; 4], vec![0; 4], 3));
        let tensors = [float(&[1, 4, 4, 2]), quantized, float(&[1, 4, 2, 4])];
        let whole = model(4, strides(1), &tensors);
        assert!(read(&whole, "test").is_ok());
        for length in 0..whole.len() {
            let _ = read(&whole[..length], "test");
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[index] ^= 1 << bit;
                let _ = read(&damaged, "test");
            }
            for value in [0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[index] = value;
                let _ = read(&damaged, "test");
            }
        }
    }
}
