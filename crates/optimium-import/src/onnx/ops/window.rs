//! Windows of signals, and the weights of mel spectra.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Unary};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::node::{NodeReader, unsupported};
use super::super::types::element_type_of_attribute;

/// `a[0] - a[1] · cos(2π · i / n) + a[2] · cos(4π · i / n)`, where n is the size, or one less for symmetric windows.
pub(super) fn cosine_window(node: &mut NodeReader<'_, '_>, a: [f32; 3]) -> Result<()> {
    let periodic = node.attributes.flag("periodic", true)?;
    let to = element_type_of_attribute(node.attributes.int_or("output_datatype", 1)?)?;
    let size = node.required(0)?;
    let size = node.cast(size, ElementType::I64);
    let size = node.reshape(size, &[1])?;
    let mut period = node.cast(size, ElementType::F32);
    if !periodic {
        period = node.plus(period, -1.0)?;
    }
    let index = node.count_to(size)?;
    let index = node.cast(index, ElementType::F32);
    let turns = node.binary(Binary::Div, index, period);
    let first = cosine(node, turns, 1.0, -a[1])?;
    let mut window = node.plus(first, a[0])?;
    if a[2] != 0.0 {
        let second = cosine(node, turns, 2.0, a[2])?;
        window = node.binary(Binary::Add, window, second);
    }
    let window = node.cast(window, to);
    node.give(0, window);
    Ok(())
}

/// `factor · cos(2π · times · turns)`
fn cosine(node: &mut NodeReader<'_, '_>, turns: ValueId, times: f32, factor: f32) -> Result<ValueId> {
    let angle = node.times(turns, times * std::f32::consts::TAU)?;
    let cosine = node.unary(Unary::Cos, angle);
    node.times(cosine, factor)
}

/// The largest spectrum that weights are computed for when the model is read.
const LARGEST: i64 = 1 << 16;

/// Inputs, all constants: number of bands, length of the transform, sample rate, lowest and highest frequency. Output:
/// weights `[length / 2 + 1, bands]`.
pub(super) fn mel_weights(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let to = element_type_of_attribute(node.attributes.int_or("output_datatype", 1)?)?;
    let mut numbers = [0.0; 5];
    for (index, number) in numbers.iter_mut().enumerate() {
        let value = node.required(index)?;
        let Some(tensor) = node.constant(value) else { return unsupported("sizes that data decide") };
        let read = if index < 3 {
            tensor.to_i64s()?.iter().map(|&x| x as f64).collect()
        } else {
            tensor.to_f32s()?.into_iter().map(f64::from).collect::<Vec<f64>>()
        };
        match read.as_slice() {
            &[single] => *number = single,
            other => return Err(Error::model(format!("its input {index} has {} elements", other.len()))),
        }
    }
    let [bands, length, rate, low, high] = numbers;
    let sizes = [bands, length, rate].map(|size| size as i64);
    if sizes.iter().any(|&size| size < 1 || size > LARGEST.max(1 << 24)) || sizes[0].max(sizes[1]) > LARGEST {
        return Err(Error::model(format!("{} bands of {} samples at {} Hz", sizes[0], sizes[1], sizes[2])));
    }
    let [bands, length, rate] = sizes.map(|size| size as usize);
    let weights = mel(bands, length, rate, [low, high])?;
    let weights = node.add_constant("weights", Tensor::from_slice(&[length / 2 + 1, bands], &weights)?);
    let weights = node.cast(weights, to);
    node.give(0, weights);
    Ok(())
}

/// Triangles in the mel scale, row by row, a column for each band.
fn mel(bands: usize, length: usize, rate: usize, edges: [f64; 2]) -> Result<Vec<f32>> {
    let rows = length / 2 + 1;
    let to_mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let [low, high] = edges.map(to_mel);
    let step = (high - low) / (bands + 2) as f64;
    let bin = |index: usize| {
        let hertz = 700.0 * (10f64.powf((low + index as f64 * step) / 2595.0) - 1.0);
        ((length + 1) as f64 * hertz / rate as f64).floor()
    };
    let bins: Vec<f64> = (0..bands + 2).map(bin).collect();
    let inside = |&bin: &f64| bin >= 0.0 && bin < rows as f64 + 1.0;
    if !bins.iter().all(inside) {
        return Err(Error::model("frequencies that the transform does not have"));
    }
    let mut weights = vec![0.0; rows * bands];
    let mut put = |row: usize, band: usize, weight: f64| {
        if row < rows {
            weights[row * bands + band] = weight as f32;
        }
    };
    for band in 0..bands {
        let [left, centre, right] = [0, 1, 2].map(|i| bins[band + i] as usize);
        if left == centre {
            put(centre, band, 1.0);
        } else {
            (left..=centre).for_each(|row| put(row, band, (row - left) as f64 / (centre - left) as f64));
        }
        if right > centre {
            (centre..right).for_each(|row| put(row, band, (right - row) as f64 / (right - centre) as f64));
        }
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::TensorProto;
    use super::super::super::testing::{integers, node, operators};
    use super::*;

    #[test]
    fn windows_become_cosines() {
        let names = |op_type| {
            let read =
                operators(17, node(op_type, &["n"], &["y"]).int("periodic", 0), vec![integers("n", &[8])]);
            read.unwrap().iter().map(|op| op.name()).collect::<Vec<_>>().join(" ")
        };
        let hann = "Cast Reshape Cast Add Squeeze Range Cast Div Mul Cos Mul Add Cast Identity";
        assert_eq!(names("HannWindow"), hann);
        assert!(names("BlackmanWindow").contains("Add Mul Cos Mul Add Cast"));
    }

    #[test]
    fn mel_weights_are_triangles() {
        // ONNX's own example.
        let weights = mel(8, 16, 8192, [0.0, 4096.0]).unwrap();
        let rows: Vec<&[f32]> = weights.chunks(8).collect();
        assert_eq!(rows[0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(rows[3], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(rows[7], [0.0; 8]);
        assert!(mel(8, 16, 10, [0.0, 4096.0]).is_err());
        let edge = |name: &str, value: f32| TensorProto {
            name: name.to_owned(),
            data_type: 1,
            float_data: vec![value],
            ..TensorProto::default()
        };
        let case = |bands: i64| {
            let sizes = [("b", bands), ("n", 16), ("r", 8192)].map(|(name, size)| integers(name, &[size]));
            let constants = sizes.into_iter().chain([edge("l", 0.0), edge("h", 4096.0)]).collect();
            operators(17, node("MelWeightMatrix", &["b", "n", "r", "l", "h"], &["y"]), constants)
        };
        assert!(case(8).is_ok() && case(-1).is_err() && case(i64::MAX).is_err());
    }
}
