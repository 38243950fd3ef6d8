//! Positions as angles: pairs of elements of queries and keys are turned.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::operands::{Heads, SharedHeads};
use crate::Part;

/// The sizes of a rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotary {
    /// Independent sequences.
    pub batch: usize,
    /// Heads of each.
    pub heads: usize,
    /// Positions of each.
    pub length: usize,
    /// Elements of a head.
    pub size: usize,
    /// How many of them are turned, the first ones: an even number.
    pub turned: usize,
    /// Whether the elements of a pair are neighbours; else they lie `turned / 2` apart.
    pub interleaved: bool,
}

/// The cosines and sines of the angles.
#[derive(Clone, Copy, Debug)]
pub struct Angles<'a> {
    /// The cosines, row by row.
    pub cos: &'a [f32],
    /// The sines.
    pub sin: &'a [f32],
    /// Numbers of a row of cosines and of sines: one a pair, or one an element.
    pub numbers: [usize; 2],
    /// Rows of the cosines and of the sines from one sequence to the next: 0 where all have the same.
    pub sequence: [usize; 2],
    /// For each position of each sequence its row, instead of one after the other. All are rows that exist.
    pub rows: Option<&'a [i64]>,
}

impl Angles<'_> {
    /// Where the row of cosines and that of sines of a position begin.
    fn at(&self, rotary: &Rotary, sequence: usize, position: usize) -> [usize; 2] {
        [0, 1].map(|i| match self.rows {
            Some(rows) => rows[sequence * rotary.length + position] as usize * self.numbers[i],
            None => (sequence * self.sequence[i] + position) * self.numbers[i],
        })
    }
}

/// `(a, b)` becomes `(a · cos - b · sin, b · cos + a · sin)` for every pair; the other elements stay.
///
/// # Panics
/// Where an operand is too short for the sizes.
pub fn rotate(level: Level, rotary: &Rotary, angles: &Angles, x: &Heads, y: &SharedHeads, part: Part) {
    let counts = [rotary.batch, rotary.heads, rotary.length];
    assert!(rotary.turned <= rotary.size && rotary.turned.is_multiple_of(2), "sizes of {rotary:?}");
    let fits = |&numbers: &usize| numbers == rotary.turned || numbers == rotary.turned / 2;
    assert!(angles.numbers.iter().all(fits), "{:?} numbers for {rotary:?}", angles.numbers);
    x.check(counts, rotary.size);
    y.check(counts, rotary.size);
    let rows = part.range(rotary.batch * rotary.length);
    level.run(Rotate { rotary, angles, x, y, rows });
}

struct Rotate<'a> {
    rotary: &'a Rotary,
    angles: &'a Angles<'a>,
    x: &'a Heads<'a>,
    y: &'a SharedHeads<'a>,
    /// Positions of all sequences.
    rows: Range<usize>,
}

impl SimdTask for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Rotary { heads, length, size, turned, interleaved, .. } = *self.rotary;
        for row in self.rows {
            let (sequence, position) = (row / length, row % length);
            let [cos, sin] = self.angles.at(self.rotary, sequence, position);
            let cos = &self.angles.cos[cos..][..self.angles.numbers[0]];
            let sin = &self.angles.sin[sin..][..self.angles.numbers[1]];
            for head in 0..heads {
                let x = &self.x.from(sequence, head, position)[..size];
                // SAFETY: each part has its own positions.
                let y = unsafe { self.y.from(sequence, head, position).slice(0..size) };
                if interleaved {
                    neighbours(&x[..turned], cos, sin, &mut y[..turned]);
                } else {
                    halves(simd, &x[..turned], cos, sin, &mut y[..turned]);
                }
                y[turned..].copy_from_slice(&x[turned..]);
            }
        }
    }
}

/// Pairs of neighbours.
fn neighbours(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
    // With a number an element, both of a pair have their own.
    let of = |numbers: &[f32], i: usize, second: usize| {
        if numbers.len() == x.len() { numbers[2 * i + second] } else { numbers[i] }
    };
    for (i, (x, y)) in x.chunks_exact(2).zip(y.chunks_exact_mut(2)).enumerate() {
        y[0] = x[0].mul_add(of(cos, i, 0), -(x[1] * of(sin, i, 0)));
        y[1] = x[1].mul_add(of(cos, i, 1), x[0] * of(sin, i, 1));
    }
}

/// Pairs of an element of the first half and one of the second.
#[inline(always)]
fn halves<S: Simd>(simd: S, x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
    let half = x.len() / 2;
    let second = |numbers: &'_ [f32]| if numbers.len() == x.len() { half } else { 0 };
    let (second_cos, second_sin) = (second(cos), second(sin));
    assert!(cos.len() >= second_cos + half && sin.len() >= second_sin + half && y.len() == x.len());
    for at in (0..half).step_by(S::LANES) {
        let mask = simd.first(half - at);
        // SAFETY: the mask selects elements below `half`, of which x and y have two halves, and cosines and sines one or two.
        unsafe {
            let load = |values: &[f32], start: usize| simd.load_masked(values.as_ptr().add(start + at), mask);
            let (a, b) = (load(x, 0), load(x, half));
            let first = simd.fma(a, load(cos, 0), simd.neg(simd.mul(b, load(sin, 0))));
            let last = simd.fma(b, load(cos, second_cos), simd.mul(a, load(sin, second_sin)));
            simd.store_masked(y.as_mut_ptr().add(at), first, mask);
            simd.store_masked(y.as_mut_ptr().add(half + at), last, mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;
    use crate::SharedSlice;

    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    #[test]
    fn pairs_of_all_forms() {
        let sizes = [(8, 8), (6, 2), (64, 64), (80, 70), (5, 0)];
        let cases = sizes.into_iter().flat_map(|(size, turned)| {
            [false, true].into_iter().flat_map(move |interleaved| {
                [0, 1, 2]
                    .map(|form| (Rotary { batch: 2, heads: 3, length: 4, size, turned, interleaved }, form))
            })
        });
        each_case(cases, |&(rotary, form)| {
            let Rotary { batch, heads, length, size, turned, interleaved } = rotary;
            let mut random = Random::new(3);
            let x = random.floats(batch * heads * length * size);
            // Of the cosines one a pair, of the sines one an element: for all sequences, for each, or by row.
            let rows = [length, batch * length, 9][form];
            let (cos, sin) = (random.floats(rows * turned / 2), random.floats(rows * turned));
            let of_position: Vec<i64> = (0..batch * length).map(|i| (i * 5 % 9) as i64).collect();
            let sequence = if form == 1 { [length; 2] } else { [0; 2] };
            let numbers = [turned / 2, turned];
            let by_row = (form == 2).then_some(&of_position[..]);
            let angles = Angles { cos: &cos, sin: &sin, numbers, sequence, rows: by_row };
            let strides = [heads * length * size, size, heads * size];
            let mut expected = x.clone();
            for (start, y) in expected.chunks_exact_mut(size).enumerate() {
                let (b, t) = (start / heads / length, start / heads % length);
                let row = [t, b * length + t, of_position[b * length + t] as usize][form];
                let x = &x[start * size..][..size];
                for pair in 0..turned / 2 {
                    let [i, j] =
                        if interleaved { [2 * pair, 2 * pair + 1] } else { [pair, turned / 2 + pair] };
                    let (cos, sin) = (cos[row * turned / 2 + pair], &sin[row * turned..]);
                    y[i] = x[i] * cos - x[j] * sin[i];
                    y[j] = x[j] * cos + x[i] * sin[j];
                }
            }
            for level in Level::available() {
                for count in 1..4 {
                    let mut y = vec![f32::NAN; x.len()];
                    let to = SharedHeads { data: SharedSlice::new(&mut y), strides };
                    for index in 0..count {
                        rotate(
                            level,
                            &rotary,
                            &angles,
                            &Heads { data: &x, strides },
                            &to,
                            Part { index, count },
                        );
                    }
                    compare(&y, &expected, TOLERANCE).map_err(|e| format!("{level}: {e}"))?;
                }
            }
            Ok(())
        });
    }
}
