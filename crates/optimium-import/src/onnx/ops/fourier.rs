//! Fourier transforms as products with matrices of angles: constants, as the lengths are.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Operator, Pad, PadMode};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::node::{NodeReader, support, unsupported};

/// What is transformed into what.
#[derive(Clone, Copy, PartialEq)]
struct Transform {
    /// From frequencies to time.
    inverse: bool,
    /// Whether only the first half of the frequencies is there, the others being their conjugates.
    one_sided: bool,
    /// Numbers of an element of the input: 1 real, 2 complex.
    parts: usize,
    /// Elements of the signal.
    length: usize,
}

/// The longest transform by a product, whose matrix has the square of its length.
const LONGEST: usize = 4096;

/// Inputs: x `[…, length, …, 1 or 2]`, length or none, axis or none (an attribute in older versions).
pub(super) fn dft(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let inverse = node.attributes.flag("inverse", false)?;
    let one_sided = node.attributes.flag("onesided", false)?;
    let x = node.required(0)?;
    let axis = match (node.opset < 20, node.input(2)) {
        (true, _) => node.attributes.int_or("axis", 1)?,
        (_, None) => -2,
        (_, Some(axis)) => constant_number(node, axis)?,
    };
    let (rank, parts) = shape_of(node, x)?;
    let along = if axis < 0 { axis + rank } else { axis };
    if !(0..rank - 1).contains(&along) {
        return Err(Error::model(format!("the axis {axis} of a signal of {rank} dimensions")));
    }
    support(!(inverse && one_sided && parts == 1), "an inverse of one side without imaginary parts")?;
    let given = node.input(1).map(|length| constant_number(node, length)).transpose()?;
    let length = match (given, node.known_size(x, along as usize)) {
        (Some(given), _) => given,
        (None, Some(own)) if inverse && one_sided => 2 * (own - 1),
        (None, Some(own)) => own,
        (None, None) => return unsupported("a length that is not known"),
    };
    let transform = Transform { inverse, one_sided, parts, length: checked_length(length)? };
    // The axis is brought in front of the parts, and back.
    let mut order: Vec<usize> = (0..rank as usize).collect();
    order.swap(along as usize, rank as usize - 2);
    let moved = along != rank - 2;
    let x = if moved { node.transpose(x, &order) } else { x };
    let x = if given.is_some() { fitted(node, x, transform.rows() as i64, rank)? } else { x };
    let y = transform.apply(node, x, rank)?;
    let y = if moved { node.transpose(y, &order) } else { y };
    node.give(0, y);
    Ok(())
}

fn checked_length(length: i64) -> Result<usize> {
    match usize::try_from(length) {
        Ok(length @ 1..=LONGEST) => Ok(length),
        Ok(length) if length > LONGEST => unsupported(format!("a transform of {length} elements")),
        _ => Err(Error::model(format!("a transform of {length} elements"))),
    }
}

/// The single integer of a constant.
fn constant_number(node: &mut NodeReader<'_, '_>, value: ValueId) -> Result<i64> {
    let Some(tensor) = node.constant(value) else {
        return unsupported("an axis or a length that data decide");
    };
    match tensor.to_i64s()?.as_slice() {
        &[number] => Ok(number),
        other => Err(Error::model(format!("{} numbers instead of one", other.len()))),
    }
}

/// The number of dimensions, and the size of the last.
fn shape_of(node: &mut NodeReader<'_, '_>, x: ValueId) -> Result<(i64, usize)> {
    let (rank, last) = (node.rank(x), node.last_size(x));
    match (rank, last) {
        (Some(rank), Some(parts @ 1..=2)) if rank >= 2 => Ok((rank as i64, parts as usize)),
        (Some(_), Some(_)) => Err(Error::model("a signal whose elements are neither real nor complex")),
        _ => unsupported("a signal of unknown shape"),
    }
}

impl Transform {
    fn reads_half(self) -> bool {
        self.inverse && self.one_sided
    }

    /// Elements that it reads.
    fn rows(self) -> usize {
        if self.reads_half() { self.length / 2 + 1 } else { self.length }
    }

    /// Elements that it gives, and the numbers of each.
    fn columns(self) -> (usize, usize) {
        let columns = if self.one_sided && !self.inverse { self.length / 2 + 1 } else { self.length };
        (columns, if self.reads_half() { 1 } else { 2 })
    }

    /// The transform along the axis before the last of `x`, of `rank` dimensions.
    fn apply(self, node: &mut NodeReader<'_, '_>, x: ValueId, rank: i64) -> Result<ValueId> {
        let (rows, (columns, parts)) = (self.rows() * self.parts, self.columns());
        let matrix = self.matrix();
        let own = node.element_type(x);
        let half = own.filter(|own| matches!(own, ElementType::F16 | ElementType::BF16));
        let x = if half.is_some() { node.cast(x, ElementType::F32) } else { x };
        let matrix = match own {
            Some(ElementType::F64) => Tensor::from_slice(&[rows, columns * parts], &matrix)?,
            _ => {
                let matrix: Vec<f32> = matrix.into_iter().map(|number| number as f32).collect();
                Tensor::from_slice(&[rows, columns * parts], &matrix)?
            }
        };
        let matrix = node.add_constant("angles", matrix);
        let mut flat = vec![0; rank as usize - 2];
        flat.push(rows as i64);
        let x = node.reshape(x, &flat)?;
        let y = node.matmul(x, matrix);
        let y = half.map_or(y, |half| node.cast(y, half));
        flat.pop();
        flat.extend([columns as i64, parts as i64]);
        node.reshape(y, &flat)
    }

    /// `[rows · parts, columns · parts of the result]`: what each number of the input adds to each of the result.
    fn matrix(self) -> Vec<f64> {
        let (rows, (columns, parts)) = (self.rows(), self.columns());
        let mut matrix = Vec::with_capacity(rows * self.parts * columns * parts);
        for row in 0..rows {
            // Frequencies between the first and the middle stand for their conjugates too.
            let alone = row == 0 || 2 * row == self.length;
            let scale = match (self.inverse, self.one_sided && !alone) {
                (false, _) => 1.0,
                (true, false) => 1.0 / self.length as f64,
                (true, true) => 2.0 / self.length as f64,
            };
            for part in 0..self.parts {
                for column in 0..columns {
                    let turns = (row * column % self.length) as f64 / self.length as f64;
                    let (sine, cosine) = (turns * std::f64::consts::TAU).sin_cos();
                    let sine = if self.inverse { sine } else { -sine };
                    let entry = if part == 0 { [cosine, sine] } else { [-sine, cosine] };
                    matrix.extend(entry[..parts].iter().map(|number| number * scale));
                }
            }
        }
        matrix
    }
}

/// `x` cut or filled up with zeros to so many elements of the axis before the last.
fn fitted(node: &mut NodeReader<'_, '_>, x: ValueId, wanted: i64, rank: i64) -> Result<ValueId> {
    let own = node.size(x, -2);
    let x = node.slice(x, rank - 2, 0, wanted)?;
    let (wanted, zero) = (node.add_i64s("wanted", &[wanted])?, node.add_i64s("none", &[0])?);
    let missing = node.binary(Binary::Sub, wanted, own);
    let missing = node.binary(Binary::Max, missing, zero);
    let before = node.add_i64s("before", &vec![0; 2 * rank as usize - 2])?;
    let pads = node.concat(&[before, missing, zero], 0);
    Ok(node.step(Operator::Pad(Pad { mode: PadMode::Constant, pads: None }), [Some(x), Some(pads)]))
}

/// Inputs: signal `[batch, length, 1 or 2]`, step of the frames, window or none, length of the frames or none.
pub(super) fn stft(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let one_sided = node.attributes.flag("onesided", true)?;
    let (signal, step) = (node.required(0)?, node.required(1)?);
    let (rank, parts) = shape_of(node, signal)?;
    support(rank == 3, "a signal that is not [batch, length, parts]")?;
    let length = match (node.input(3), node.input(2)) {
        (Some(frame), _) => Some(constant_number(node, frame)?),
        (None, Some(window)) => node.known_size(window, 0),
        (None, None) => node.known_size(signal, 1),
    };
    let Some(length) = length else { return unsupported("frames of a length that is not known") };
    let transform = Transform { inverse: false, one_sided, parts, length: checked_length(length)? };
    let (whole, frame) = (node.size(signal, 1), node.add_i64s("length", &[length])?);
    let step = node.reshape(step, &[1])?;
    let step = node.cast(step, ElementType::I64);
    let rest = node.binary(Binary::Sub, whole, frame);
    let count = node.binary(Binary::Div, rest, step);
    let count = node.plus(count, 1.0)?;
    let (first, inside) = (node.count_to(count)?, node.count_to(frame)?);
    let first = node.binary(Binary::Mul, first, step);
    let first = node.unsqueeze(first, &[1]);
    let indices = node.binary(Binary::Add, first, inside);
    let mut frames = node.gather(signal, indices, 1);
    if let Some(window) = node.input(2) {
        let window = node.unsqueeze(window, &[1]);
        frames = node.binary(Binary::Mul, frames, window);
    }
    let y = transform.apply(node, frames, 4)?;
    node.give(0, y);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{graph, integers, node, read_graph, value};
    use super::Transform;

    /// The shape of the only output of a node on a signal of that shape.
    fn shape(
        opset: i64,
        node: super::super::super::proto::NodeProto,
        dims: &[&str],
    ) -> Result<String, String> {
        let constants = vec![integers("n", &[6]), integers("axis", &[1]), integers("step", &[2])];
        let mut graph = read_graph(opset, graph(vec![value("x", dims)], constants, vec![node]))
            .map_err(|error| error.message().to_owned())?;
        optimium_graph::shapes::infer(&mut graph).map_err(|error| error.to_string())?;
        Ok(graph.value(graph.outputs[0]).shape().unwrap().to_string())
    }

    #[test]
    fn transforms_have_their_shapes() {
        let dft = |inputs: &[&str]| node("DFT", inputs, &["y"]);
        let cases = [
            (20, dft(&["x"]), ["3", "8", "5", "1"], Ok("[3, 8, 5, 2]")),
            (20, dft(&["x", "", "axis"]), ["3", "8", "5", "1"], Ok("[3, 8, 5, 2]")),
            (20, dft(&["x", "", "axis"]).int("onesided", 1), ["3", "8", "5", "1"], Ok("[3, 5, 5, 2]")),
            (20, dft(&["x", "n"]), ["3", "8", "5", "2"], Ok("[3, 8, 6, 2]")),
            (20, dft(&["x"]).int("inverse", 1), ["3", "T", "5", "2"], Ok("[3, T, 5, 2]")),
            (20, dft(&["x"]).int("inverse", 1).int("onesided", 1), ["3", "8", "5", "2"], Ok("[3, 8, 8, 1]")),
            (17, dft(&["x"]).int("axis", 2), ["3", "8", "5", "1"], Ok("[3, 8, 5, 2]")),
            (17, dft(&["x"]).int("axis", 3), ["3", "8", "5", "1"], Err("axis 3")),
            (17, dft(&["x"]), ["3", "8", "5", "3"], Err("neither real nor complex")),
            (17, dft(&["x"]), ["3", "T", "5", "2"], Err("not known")),
            (17, dft(&["x"]), ["3", "5000", "5", "2"], Err("5000 elements")),
            (17, dft(&["x"]), ["3", "0", "5", "2"], Err("0 elements")),
        ];
        optimium_testing::each_case(cases, |(opset, node, dims, expected)| {
            match (shape(*opset, node.clone(), dims), expected) {
                (Ok(shape), Ok(expected)) if shape == *expected => Ok(()),
                (Err(message), Err(expected)) if message.contains(expected) => Ok(()),
                (other, _) => Err(format!("{other:?}")),
            }
        });
        let frames = shape(17, node("STFT", &["x", "step", "", "n"], &["y"]), &["1", "16", "1"]);
        assert_eq!(frames.unwrap(), "[1, 6, 4, 2]");
    }

    #[test]
    fn inverses_undo() {
        for length in [1, 2, 5, 8] {
            let forth = Transform { inverse: false, one_sided: false, parts: 2, length }.matrix();
            let back = Transform { inverse: true, one_sided: false, parts: 2, length }.matrix();
            let product = |a: &[f64], b: &[f64], rows: usize, depth: usize, columns: usize| -> Vec<f32> {
                let sum = |i: usize| {
                    (0..depth).map(|k| a[i / columns * depth + k] * b[k * columns + i % columns]).sum::<f64>()
                };
                (0..rows * columns).map(|i| sum(i) as f32).collect()
            };
            let unit =
                |n: usize| (0..n * n).map(|i| f32::from(u8::from(i % (n + 1) == 0))).collect::<Vec<f32>>();
            let size = 2 * length;
            let tolerance = optimium_testing::Tolerance::Relative(1e-6);
            optimium_testing::compare(&product(&forth, &back, size, size, size), &unit(size), tolerance)
                .unwrap();
            let half = Transform { inverse: false, one_sided: true, parts: 1, length }.matrix();
            let back = Transform { inverse: true, one_sided: true, parts: 2, length }.matrix();
            let depth = 2 * (length / 2 + 1);
            let result = product(&half, &back, length, depth, length);
            optimium_testing::compare(&result, &unit(length), tolerance).unwrap();
        }
    }
}
