//! Rule of recurrent layers.

use optimium_tensor::{Error, Expr, Result};

use super::arithmetic::constant;
use super::broadcast::shown;
use super::context::Context;
use crate::ops::{Recurrent, RecurrentKind};

/// Inputs as ONNX's RNN, GRU and LSTM. Outputs: y, last h, and for LSTM last c.
pub(super) fn recurrent(op: &Recurrent, cx: &mut Context<'_>) -> Result<()> {
    cx.same_types(&[0, 1, 2, 3, 5, 6, 7])?;
    let x = cx.dims_of_rank(0, 3)?;
    let element_type = cx.arithmetic_type(0)?;
    let count = |n: usize| constant(i64::try_from(n).unwrap_or(i64::MAX));
    let (directions, hidden) = (count(op.direction.count()), count(op.hidden_size));
    let (time, batch) = if op.batch_first { (&x[1], &x[0]) } else { (&x[0], &x[1]) };
    let gates = count(op.kind.gates()) * hidden.clone();
    check(cx, 1, &[directions.clone(), gates.clone(), x[2].clone()])?;
    check(cx, 2, &[directions.clone(), gates.clone(), hidden.clone()])?;
    check(cx, 3, &[directions.clone(), gates * constant(2)])?;
    check(cx, 4, std::slice::from_ref(batch))?;
    let state = match op.batch_first {
        true => [batch, &directions, &hidden].map(Expr::clone),
        false => [&directions, batch, &hidden].map(Expr::clone),
    };
    check(cx, 5, &state)?;
    check(cx, 6, &state)?;
    check(cx, 7, &[directions.clone(), hidden.clone() * constant(3)])?;
    let y = match op.batch_first {
        true => [batch, time, &directions, &hidden].map(Expr::clone),
        false => [time, &directions, batch, &hidden].map(Expr::clone),
    };
    cx.set(0, element_type, y.to_vec())?;
    cx.set(1, element_type, state.to_vec())?;
    if op.kind == RecurrentKind::Lstm {
        cx.set(2, element_type, state.to_vec())?;
    }
    Ok(())
}

/// Requires that input `index`, where it is there, has no other numbers than `expected`.
fn check(cx: &Context<'_>, index: usize, expected: &[Expr]) -> Result<()> {
    if !cx.has(index) {
        return if index < 3 { cx.input(index).map(|_| ()) } else { Ok(()) };
    }
    let found = cx.dims(index)?;
    if shown(&found).is_compatible(&shown(expected)) {
        return Ok(());
    }
    let name = &cx.input(index)?.name;
    Err(Error::model(format!(
        "the input {name:?} has the shape {}, expected {}",
        shown(&found),
        shown(expected)
    )))
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::Direction;
    use crate::shapes::testing::Input::{self, Data, Missing};
    use crate::shapes::testing::{expect, outcome};

    #[test]
    fn outputs_follow_the_layout() {
        use Direction::{Bidirectional, Forward};
        use RecurrentKind::{Gru, Lstm};
        let op = |kind, hidden_size, direction, batch_first| {
            Operator::Recurrent(Recurrent {
                kind,
                hidden_size,
                direction,
                activations: vec![],
                clip: None,
                linear_before_reset: false,
                input_forget: false,
                batch_first,
            })
        };
        let cases: Vec<(Operator, &[Input], usize, Result<&str, &str>)> = vec![
            (
                op(Gru, 8, Forward, false),
                &[Data("T N 4"), Data("1 24 4"), Data("1 24 8")],
                2,
                Ok("F32 [T, 1, N, 8]; F32 [1, N, 8]"),
            ),
            (
                op(Lstm, 8, Bidirectional, true),
                &[Data("N T 4"), Data("2 32 4"), Data("2 32 8"), Data("2 64"), Missing, Data("N 2 8")],
                3,
                Ok("F32 [N, T, 2, 8]; F32 [N, 2, 8]; F32 [N, 2, 8]"),
            ),
            (
                op(Gru, 8, Forward, false),
                &[Data("T N 4"), Data("1 24 5"), Data("1 24 8")],
                1,
                Err("expected [1, 24, 4]"),
            ),
            (op(Gru, 8, Forward, false), &[Data("T N 4"), Data("1 24 4")], 1, Err("input 2 is missing")),
            (
                op(Gru, usize::MAX, Forward, false),
                &[Data("T N 4"), Data("1 24 4"), Data("1 24 8")],
                1,
                Err("expected"),
            ),
        ];
        each_case(cases, |(op, inputs, outputs, expected)| {
            expect(outcome(op.clone(), inputs, *outputs), *expected)
        });
    }
}
