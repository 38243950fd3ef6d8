//! Random numbers.

use optimium_graph::Operator;
use optimium_graph::ops::{Binary, Distribution, Random};
use optimium_tensor::{ElementType, Expr};

use super::harness::{Builder, ROUNDED, check};

fn random(dims: Option<&[usize]>, distribution: Distribution, seed: Option<u32>) -> Operator {
    let dims = dims.map(|dims| dims.iter().map(|&dim| Expr::from(dim)).collect());
    Operator::Random(Random { dims, element_type: ElementType::F32, distribution, seed })
}

const UNIT: Distribution = Distribution::Uniform { low: 0.0, high: 1.0 };

#[test]
fn seeded() {
    check(
        ROUNDED,
        [
            ("uniform", |b| {
                let y = b.node(random(Some(&[3]), UNIT, Some(0)), &[]);
                vec![(y, vec![0.548_813_5, 0.715_189_4, 0.602_763_4])]
            }),
            ("uniform between bounds, of a given shape", |b| {
                let shape = b.constant(&[2], &[1i64, 2]);
                let y =
                    b.node(random(None, Distribution::Uniform { low: 2.0, high: 6.0 }, Some(42)), &[shape]);
                vec![(y, vec![2.0 + 4.0 * 0.374_540_12, 2.0 + 4.0 * 0.950_714_3])]
            }),
            ("normal", |b| {
                let y = b.node(
                    random(Some(&[3]), Distribution::Normal { mean: 1.0, deviation: 2.0 }, Some(42)),
                    &[],
                );
                vec![(y, vec![1.993_428_3, 0.723_471_4, 2.295_377])]
            }),
        ],
    );
}

#[test]
fn without_a_seed_every_node_draws_its_own() {
    let mut b = Builder::new();
    let (x, y) =
        (b.node(random(Some(&[1000]), UNIT, None), &[]), b.node(random(Some(&[1000]), UNIT, None), &[]));
    let difference = b.binary(Binary::Sub, x, y);
    let zeros = vec![(difference, vec![0.0; 1000])];
    assert!(b.check(&zeros, ROUNDED).is_err());
}
