//! Every operation at every level of this machine against the scalar that it is named after.

use crate::{Level, Simd, SimdTask};

/// At least as many as any vector has lanes.
const MAX_LANES: usize = 16;

const FLOATS: [f32; 40] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    -1.5,
    2.5,
    -2.5,
    3.5,
    0.499_999_97,
    -0.499_999_97,
    0.75,
    3.0,
    -7.25,
    1e-3,
    1e10,
    -1e10,
    8_388_607.5,
    8_388_609.0,
    -8_388_607.5,
    16_777_217.0,
    2_147_483_500.0,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-40,
    -1e-40,
    1e-45,
    f32::MAX,
    f32::MIN,
    f32::EPSILON,
    std::f32::consts::PI,
    1e38,
    -3e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    -1e20,
    123.456,
];

const INTEGERS: [i32; 16] = [
    0,
    1,
    -1,
    2,
    127,
    128,
    -128,
    -129,
    255,
    256,
    65_536,
    -65_537,
    16_777_217,
    123_456_789,
    i32::MAX,
    i32::MIN,
];

fn failures_at_every_level(check: impl Fn(Level) -> Vec<String>) {
    let failures: Vec<String> = Level::available()
        .flat_map(|level| check(level).into_iter().map(move |failure| format!("{level}: {failure}")))
        .collect();
    let shown = failures.len().min(40);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..shown].join("\n"));
}

fn lanes_of<S: Simd>(simd: S, v: S::F32) -> Vec<f32> {
    let mut lanes = vec![0.0; S::LANES];
    // SAFETY: the vector has LANES elements.
    unsafe { simd.store(lanes.as_mut_ptr(), v) };
    lanes
}

fn integer_lanes_of<S: Simd>(simd: S, v: S::I32) -> Vec<i32> {
    let mut lanes = vec![0; S::LANES];
    // SAFETY: the vector has LANES elements.
    unsafe { simd.store_i32(lanes.as_mut_ptr(), v) };
    lanes
}

fn vector<S: Simd>(simd: S, f: impl FnMut(usize) -> f32) -> S::F32 {
    let lanes: Vec<f32> = (0..S::LANES).map(f).collect();
    // SAFETY: the vector has LANES elements.
    unsafe { simd.load(lanes.as_ptr()) }
}

fn integer_vector<S: Simd>(simd: S, f: impl FnMut(usize) -> i32) -> S::I32 {
    let lanes: Vec<i32> = (0..S::LANES).map(f).collect();
    // SAFETY: the vector has LANES elements.
    unsafe { simd.load_i32(lanes.as_ptr()) }
}

/// Bit for bit, but any NaN for any NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Compares the lanes of `actual` with `expected(lane)`.
fn expect<S: Simd>(
    failures: &mut Vec<String>,
    simd: S,
    name: &str,
    actual: S::F32,
    expected: impl Fn(usize) -> f32,
) {
    for (i, x) in lanes_of(simd, actual).into_iter().enumerate() {
        if !same(x, expected(i)) {
            failures.push(format!("{name}: {x:e} instead of {:e} in lane {i}", expected(i)));
        }
    }
}

fn expect_integers<S: Simd>(
    failures: &mut Vec<String>,
    simd: S,
    name: &str,
    actual: S::I32,
    expected: impl Fn(usize) -> i32,
) {
    for (i, x) in integer_lanes_of(simd, actual).into_iter().enumerate() {
        if x != expected(i) {
            failures.push(format!("{name}: {x} instead of {} in lane {i}", expected(i)));
        }
    }
}

struct FloatsOfPairs;
impl SimdTask for FloatsOfPairs {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        for (first, &x) in FLOATS.iter().enumerate() {
            // Every lane meets every pair, at one shift or another.
            for shift in 0..FLOATS.len() {
                let (a, b) = (
                    |i: usize| if i == 0 { x } else { FLOATS[(first + i) % 40] },
                    |i: usize| FLOATS[(shift + i) % 40],
                );
                let (va, vb) = (vector(simd, a), vector(simd, b));
                let mut check = |name, actual, f: &dyn Fn(f32, f32) -> f32| {
                    expect(failures, simd, name, actual, |i| f(a(i), b(i)));
                };
                check("add", simd.add(va, vb), &|a, b| a + b);
                check("sub", simd.sub(va, vb), &|a, b| a - b);
                check("mul", simd.mul(va, vb), &|a, b| a * b);
                check("div", simd.div(va, vb), &|a, b| a / b);
                check("max", simd.max(va, vb), &|a, b| if a > b { a } else { b });
                check("min", simd.min(va, vb), &|a, b| if a < b { a } else { b });
                check("copysign", simd.copysign(va, vb), &f32::copysign);
                let truth = |mask| simd.select(mask, simd.splat(1.0), simd.splat(2.0));
                let flag = |on: bool| if on { 1.0 } else { 2.0 };
                check("lt", truth(simd.lt(va, vb)), &|a, b| flag(a < b));
                check("le", truth(simd.le(va, vb)), &|a, b| flag(a <= b));
                check("eq", truth(simd.eq(va, vb)), &|a, b| flag(a == b));
                check("select", simd.select(simd.lt(va, vb), va, vb), &|a, b| if a < b { a } else { b });
            }
        }
        for shift in 0..S::LANES {
            let number = |i: usize| (3 * i + shift) % S::LANES;
            let chosen = simd.permute(vector(simd, |i| i as f32), integer_vector(simd, |i| number(i) as i32));
            expect(failures, simd, "permute", chosen, |i| number(i) as f32);
        }
        std::mem::take(failures)
    }
}

#[test]
fn operations_of_two_floats() {
    failures_at_every_level(|level| level.run(FloatsOfPairs));
}

struct FloatsAlone;
impl SimdTask for FloatsAlone {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        for start in 0..FLOATS.len() {
            let a = |i: usize| FLOATS[(start + i) % FLOATS.len()];
            let va = vector(simd, a);
            let mut check = |name, actual, f: &dyn Fn(f32) -> f32| {
                expect(failures, simd, name, actual, |i| f(a(i)));
            };
            check("splat", simd.splat(a(0)), &|_| a(0));
            check("neg", simd.neg(va), &|a| -a);
            check("abs", simd.abs(va), &f32::abs);
            check("sqrt", simd.sqrt(va), &f32::sqrt);
            check("round", simd.round(va), &f32::round_ties_even);
            check("floor", simd.floor(va), &f32::floor);
            check("bits", simd.from_bits(simd.to_bits(va)), &|a| a);
            let small = |i: usize| if a(i).abs() < 2_147_483_600.0 { a(i) } else { 0.0 };
            let rounded = simd.round_to_i32(vector(simd, small));
            expect_integers(failures, simd, "round_to_i32", rounded, |i| small(i).round_ties_even() as i32);
            let bits = simd.to_bits(va);
            expect_integers(failures, simd, "to_bits", bits, |i| a(i).to_bits() as i32);
        }
        std::mem::take(failures)
    }
}

#[test]
fn operations_of_one_float() {
    failures_at_every_level(|level| level.run(FloatsAlone));
}

struct Fma;
impl SimdTask for Fma {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let mut failures = Vec::new();
        for (j, &b) in FLOATS.iter().enumerate() {
            for k in 0..FLOATS.len() {
                let (a, c) = (|i: usize| FLOATS[(i + k) % 40], |i: usize| FLOATS[(3 * i + k + j) % 40]);
                let v = simd.fma(vector(simd, a), simd.splat(b), vector(simd, c));
                for (i, x) in lanes_of(simd, v).into_iter().enumerate() {
                    let fused = a(i).mul_add(b, c(i));
                    let apart = a(i) * b + c(i);
                    if !same(x, fused) && (S::LEVEL != Level::Portable || !same(x, apart)) {
                        failures.push(format!("fma({}, {b}, {}) = {x} instead of {fused}", a(i), c(i)));
                    }
                }
            }
        }
        failures
    }
}

#[test]
fn fused_multiply_add() {
    failures_at_every_level(|level| level.run(Fma));
}

struct Scale;
impl SimdTask for Scale {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        for n in -320..=320 {
            for start in (0..FLOATS.len()).step_by(4) {
                let a = |i: usize| FLOATS[(start + i) % FLOATS.len()];
                let v = simd.scale_by_power_of_two(vector(simd, a), simd.splat(n as f32));
                // Exact in f64, so that the conversion alone rounds.
                let expected = |i| (f64::from(a(i)) * f64::from(n).exp2()) as f32;
                expect(failures, simd, &format!("scale by 2^{n}"), v, expected);
                let near_one = |i: usize| 0.5 + (start + i) as f32 / 64.0;
                if (-252..=254).contains(&n) {
                    let v = simd.scale_by_small_power_of_two(vector(simd, near_one), simd.splat(n as f32));
                    let expected = |i| (f64::from(near_one(i)) * f64::from(n).exp2()) as f32;
                    expect(failures, simd, &format!("scale a little by 2^{n}"), v, expected);
                }
            }
        }
        std::mem::take(failures)
    }
}

#[test]
fn scaling_by_powers_of_two() {
    failures_at_every_level(|level| level.run(Scale));
}

struct Reductions;
impl SimdTask for Reductions {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let mut failures = Vec::new();
        for seed in 0..MAX_LANES {
            // Small integers: every order of addition is exact.
            let a = |i: usize| ((i * 7 + seed * 5) % 23) as f32 - 11.0;
            let lanes: Vec<f32> = (0..S::LANES).map(a).collect();
            let v = vector(simd, a);
            let largest = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let smallest = lanes.iter().copied().fold(f32::INFINITY, f32::min);
            let results = [simd.reduce_add(v), simd.reduce_max(v), simd.reduce_min(v)];
            let expected = [lanes.iter().sum(), largest, smallest];
            if results != expected {
                failures.push(format!("sum, maximum, minimum {results:?} instead of {expected:?}"));
            }
        }
        let infinite = vector(simd, |i| if i == 1 { f32::INFINITY } else { f32::NEG_INFINITY });
        if simd.reduce_max(infinite) != f32::INFINITY || simd.reduce_min(infinite) != f32::NEG_INFINITY {
            failures.push("infinite lanes are lost".into());
        }
        failures
    }
}

#[test]
fn reductions_over_lanes() {
    failures_at_every_level(|level| level.run(Reductions));
}

struct Masks;
impl SimdTask for Masks {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        let floats: Vec<f32> = (1..=MAX_LANES).map(|i| i as f32).collect();
        let integers: Vec<i32> = (1..=MAX_LANES as i32).collect();
        for n in 0..=S::LANES + 3 {
            let mask = simd.first(n);
            let count = n.min(S::LANES);
            let on = |i: usize| i < n;
            let chosen = simd.select(mask, simd.splat(1.0), simd.splat(2.0));
            expect(failures, simd, "first", chosen, |i| if on(i) { 1.0 } else { 2.0 });
            let mut stored = [-1.0; MAX_LANES + 4];
            let mut stored_integers = [-1; MAX_LANES + 4];
            // SAFETY: the slices have at least the selected elements.
            unsafe {
                let v = simd.load_masked(floats[..count].as_ptr(), mask);
                expect(failures, simd, "load_masked", v, |i| if on(i) { floats[i] } else { 0.0 });
                let w = simd.load_i32_masked(integers[..count].as_ptr(), mask);
                expect_integers(
                    failures,
                    simd,
                    "load_i32_masked",
                    w,
                    |i| if on(i) { integers[i] } else { 0 },
                );
                simd.store_masked(stored.as_mut_ptr(), simd.load(floats.as_ptr()), mask);
                simd.store_i32_masked(stored_integers.as_mut_ptr(), simd.load_i32(integers.as_ptr()), mask);
            }
            let kept = |i: usize| i >= count;
            let right = (0..stored.len()).all(|i| stored[i] == if kept(i) { -1.0 } else { floats[i] });
            let right_integers =
                (0..stored.len()).all(|i| stored_integers[i] == if kept(i) { -1 } else { integers[i] });
            if !right || !right_integers {
                failures.push(format!("masked stores of {n}: {stored:?}, {stored_integers:?}"));
            }
        }
        std::mem::take(failures)
    }
}

#[test]
fn masked_memory() {
    failures_at_every_level(|level| level.run(Masks));
}

struct Integers;
impl SimdTask for Integers {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        for first in 0..INTEGERS.len() {
            for shift in 0..INTEGERS.len() {
                let (a, b) =
                    (|i: usize| INTEGERS[(first + i) % 16], |i: usize| INTEGERS[(shift + 3 * i) % 16]);
                let (va, vb) = (integer_vector(simd, a), integer_vector(simd, b));
                let mut check = |name, actual, f: &dyn Fn(i32, i32) -> i32| {
                    expect_integers(failures, simd, name, actual, |i| f(a(i), b(i)));
                };
                check("splat_i32", simd.splat_i32(a(0)), &|_, _| a(0));
                check("add_i32", simd.add_i32(va, vb), &i32::wrapping_add);
                check("sub_i32", simd.sub_i32(va, vb), &i32::wrapping_sub);
                check("mul_i32", simd.mul_i32(va, vb), &i32::wrapping_mul);
                check("max_i32", simd.max_i32(va, vb), &Ord::max);
                check("min_i32", simd.min_i32(va, vb), &Ord::min);
                check("xor_i32", simd.xor_i32(va, vb), &|a, b| a ^ b);
                check("and_i32", simd.and_i32(va, vb), &|a, b| a & b);
                check("or_i32", simd.or_i32(va, vb), &|a, b| a | b);
                for n in [0, 1, 7, 23, 31] {
                    check("shift_left_i32", simd.shift_left_i32(va, n), &|a, _| a << n);
                    check("shift_right_i32", simd.shift_right_i32(va, n), &|a, _| a >> n);
                }
                check("dot_u8_i8", simd.dot_u8_i8(vb, va, vb), &|a, b| dot(b, a, b));
                expect(failures, simd, "to_f32", simd.to_f32(va), |i| a(i) as f32);
            }
        }
        std::mem::take(failures)
    }
}

fn dot(acc: i32, a: i32, b: i32) -> i32 {
    let products = a.to_ne_bytes().into_iter().zip(b.to_ne_bytes());
    products.fold(acc, |sum, (a, b)| sum.wrapping_add(i32::from(a) * i32::from(b as i8)))
}

#[test]
fn operations_of_integers() {
    failures_at_every_level(|level| level.run_vnni(Integers));
}

struct DotExtremes;
impl SimdTask for DotExtremes {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        let bytes = [0u8, 1, 127, 128, 129, 254, 255, 77];
        for shift in 0..8 {
            let word = |i: usize, step: usize| {
                i32::from_ne_bytes(std::array::from_fn(|j| bytes[(i * 4 + j) * step % 7 + (shift + i) % 2]))
            };
            let (a, b) = (|i: usize| word(i, 1), |i: usize| word(i + shift, 3));
            let v = simd.dot_u8_i8(simd.splat_i32(-5), integer_vector(simd, a), integer_vector(simd, b));
            expect_integers(failures, simd, "dot_u8_i8", v, |i| dot(-5, a(i), b(i)));
        }
        let extreme =
            simd.dot_u8_i8(simd.splat_i32(0), simd.splat_i32(-1), simd.splat_i32(0x8080_8080_u32 as i32));
        expect_integers(failures, simd, "dot of extremes", extreme, |_| 4 * 255 * -128);
        std::mem::take(failures)
    }
}

#[test]
fn byte_dot_products_do_not_saturate() {
    failures_at_every_level(|level| level.run_vnni(DotExtremes));
}

struct Bytes;
impl SimdTask for Bytes {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        let source: Vec<u8> = (0..4 * MAX_LANES).map(|i| (i * 37 + 120) as u8).collect();
        let signed: Vec<i8> = source.iter().map(|&x| x as i8).collect();
        for n in 0..=S::LANES {
            let wide = |i: usize| INTEGERS[(i + n) % 16];
            let v = integer_vector(simd, wide);
            let (mut bytes, mut signed_bytes) = ([9u8; MAX_LANES + 1], [9i8; MAX_LANES + 1]);
            // SAFETY: the slices have n elements.
            unsafe {
                let a = simd.load_u8(source[..n].as_ptr(), n);
                expect_integers(failures, simd, "load_u8", a, |i| if i < n { source[i].into() } else { 0 });
                let b = simd.load_i8(signed[..n].as_ptr(), n);
                expect_integers(failures, simd, "load_i8", b, |i| if i < n { signed[i].into() } else { 0 });
                simd.store_u8(bytes.as_mut_ptr(), v, n);
                simd.store_i8(signed_bytes.as_mut_ptr(), v, n);
            }
            for i in 0..=MAX_LANES {
                let expected = if i < n { wide(i).clamp(0, 255) as u8 } else { 9 };
                let expected_signed = if i < n { wide(i).clamp(-128, 127) as i8 } else { 9 };
                if bytes[i] != expected || signed_bytes[i] != expected_signed {
                    failures.push(format!(
                        "stores of {n} bytes of {}: {}, {}",
                        wide(i),
                        bytes[i],
                        signed_bytes[i]
                    ));
                }
            }
        }
        for n in 0..=4 * S::LANES {
            let mut bytes = [9u8; 4 * MAX_LANES + 1];
            // SAFETY: the slices have n elements.
            unsafe {
                let v = simd.load_bytes(source[..n].as_ptr(), n);
                let byte = |i: usize| if i < n { source[i] } else { 0 };
                let expected = |i: usize| i32::from_ne_bytes(std::array::from_fn(|j| byte(4 * i + j)));
                expect_integers(failures, simd, "load_bytes", v, expected);
                simd.store_bytes(bytes.as_mut_ptr(), simd.load_bytes(source.as_ptr(), 4 * S::LANES), n);
            }
            if (0..bytes.len()).any(|i| bytes[i] != if i < n { source[i] } else { 9 }) {
                failures.push(format!("store_bytes of {n}: {bytes:?}"));
            }
        }
        std::mem::take(failures)
    }
}

#[test]
fn bytes_widen_and_saturate() {
    failures_at_every_level(|level| level.run(Bytes));
}

struct Shuffles;
impl SimdTask for Shuffles {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        let word = |j: usize, i: usize| {
            (j as i32 + 1).wrapping_mul(0x0103_0507).wrapping_add((i as i32).wrapping_mul(0x1121_3141))
        };
        let rows: [S::I32; 4] = std::array::from_fn(|j| integer_vector(simd, |i| word(j, i)));
        for (q, v) in simd.interleave_bytes(rows).into_iter().enumerate() {
            let byte = |j: usize, i: usize| word(j, i / 4 * 4 + q).to_ne_bytes()[i % 4];
            let expected = |i: usize| i32::from_ne_bytes(std::array::from_fn(|j| byte(j, i)));
            expect_integers(failures, simd, "interleave_bytes", v, expected);
        }
        for shift in 0..16 {
            let value = |q: usize, i: usize| INTEGERS[(q * 5 + i * 3 + shift) % 16];
            let v: [S::I32; 4] = std::array::from_fn(|q| integer_vector(simd, |i| value(q, i)));
            let lane = |i: usize, j: usize| value(i % 4, i / 4 * 4 + j);
            let unsigned = |i: usize| std::array::from_fn(|j| lane(i, j).clamp(0, 255) as u8);
            let signed = |i: usize| std::array::from_fn(|j| lane(i, j).clamp(-128, 127) as u8);
            expect_integers(failures, simd, "pack_u8", simd.pack_u8(v), |i| i32::from_ne_bytes(unsigned(i)));
            expect_integers(failures, simd, "pack_i8", simd.pack_i8(v), |i| i32::from_ne_bytes(signed(i)));
        }
        // Word `4 b + q` of a pack's result holds lanes `4 b..4 b + 4` of vector `q`.
        let blocks = S::LANES / 4;
        let ordered = simd.order_packed(integer_vector(simd, |i| i as i32));
        expect_integers(failures, simd, "order_packed", ordered, |i| (i % blocks * 4 + i / blocks) as i32);
        let byte = |half: usize, i: usize| (half * 100 + i) as u8;
        let halves = [0, 1].map(|half| std::array::from_fn::<u8, 32, _>(|i| byte(half, i)));
        for n in 0..=2 * S::LANES {
            let mut copies = [[255u8; 33]; 2];
            let [low, high] = &mut copies;
            // SAFETY: all have n elements.
            unsafe {
                let v = simd.load_byte_halves(halves[0][..n].as_ptr(), halves[1][..n].as_ptr(), n);
                let at = |i: usize| {
                    if i % (2 * S::LANES) < n { byte(i / (2 * S::LANES), i % (2 * S::LANES)) } else { 0 }
                };
                let expected = |i: usize| i32::from_ne_bytes(std::array::from_fn(|j| at(4 * i + j)));
                expect_integers(failures, simd, "load_byte_halves", v, expected);
                let v = simd.load_byte_halves(halves[0].as_ptr(), halves[1].as_ptr(), 2 * S::LANES);
                simd.store_byte_halves(low.as_mut_ptr(), high.as_mut_ptr(), v, n);
            }
            let expected = |half: usize, i: usize| if i < n { byte(half, i) } else { 255 };
            if (0..66).any(|i| copies[i / 33][i % 33] != expected(i / 33, i % 33)) {
                failures.push(format!("store_byte_halves of {n}: {copies:?}"));
            }
        }
        for i in 0..=S::LANES {
            if simd.any(simd.first(i)) != (i > 0) || simd.any(simd.lt(simd.splat(1.0), simd.splat(1.0))) {
                failures.push(format!("any of {i} lanes"));
            }
        }
        let (stride, target_stride) = (S::LANES + 3, S::LANES + 1);
        let source: Vec<f32> = (0..S::LANES * stride).map(|i| i as f32).collect();
        let mut target = vec![-1.0; S::LANES * target_stride];
        // SAFETY: both hold LANES rows of that stride.
        unsafe { simd.transpose(source.as_ptr(), stride, target.as_mut_ptr(), target_stride) };
        for (i, &x) in target.iter().enumerate() {
            let (row, column) = (i / target_stride, i % target_stride);
            let expected = if column < S::LANES { source[column * stride + row] } else { -1.0 };
            if x != expected {
                failures.push(format!("transpose: {x} instead of {expected} at {row}, {column}"));
            }
        }
        simd.prefetch(source.as_ptr());
        std::mem::take(failures)
    }
}

#[test]
fn bytes_and_blocks_change_places() {
    failures_at_every_level(|level| level.run(Shuffles));
}

struct Halves;
impl SimdTask for Halves {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for bits in all.chunks(S::LANES) {
            // SAFETY: the chunk has LANES elements.
            let (half, brain) =
                unsafe { (simd.load_f16(bits.as_ptr(), S::LANES), simd.load_bf16(bits.as_ptr(), S::LANES)) };
            expect(failures, simd, "load_f16", half, |i| half::f16::from_bits(bits[i]).to_f32());
            expect(failures, simd, "load_bf16", brain, |i| half::bf16::from_bits(bits[i]).to_f32());
        }
        // Each half float, the ties to its neighbour and both sides of these.
        let edges = all.iter().flat_map(|&bits| {
            let x = half::f16::from_bits(bits).to_f32().to_bits();
            [x, x + 0x0fff, x + 0x1000, x + 0x1001]
        });
        let floats: Vec<f32> = edges.map(f32::from_bits).chain(FLOATS).collect();
        for chunk in floats.chunks(S::LANES) {
            let x = |i: usize| chunk.get(i).copied().unwrap_or(0.0);
            let mut bits = [0u16; MAX_LANES];
            // SAFETY: the array has at least LANES elements.
            unsafe { simd.store_f16(bits.as_mut_ptr(), vector(simd, x), S::LANES) };
            for (i, &bits) in bits.iter().enumerate().take(S::LANES) {
                let (actual, expected) = (half::f16::from_bits(bits), half::f16::from_f32(x(i)));
                if actual.to_bits() != expected.to_bits() && !(actual.is_nan() && expected.is_nan()) {
                    failures.push(format!("store_f16({:e}) = {actual} instead of {expected}", x(i)));
                }
            }
        }
        halves_in_part(simd, failures);
        std::mem::take(failures)
    }
}

/// Loads and stores of fewer than all lanes.
fn halves_in_part<S: Simd>(simd: S, failures: &mut Vec<String>) {
    let source: Vec<u16> = (0..MAX_LANES).map(|i| half::f16::from_f32(i as f32 + 1.0).to_bits()).collect();
    for n in 0..=S::LANES {
        let mut bits = [9u16; MAX_LANES + 1];
        // SAFETY: the slices have n elements.
        unsafe {
            let v = simd.load_f16(source[..n].as_ptr(), n);
            expect(failures, simd, "load_f16 in part", v, |i| if i < n { i as f32 + 1.0 } else { 0.0 });
            let w = simd.load_bf16(source[..n].as_ptr(), n);
            let brain = |i: usize| half::bf16::from_bits(source[i]).to_f32();
            expect(failures, simd, "load_bf16 in part", w, |i| if i < n { brain(i) } else { 0.0 });
            simd.store_f16(bits.as_mut_ptr(), vector(simd, |i| i as f32 + 1.0), n);
        }
        if (0..bits.len()).any(|i| bits[i] != if i < n { source[i] } else { 9 }) {
            failures.push(format!("store_f16 of {n}: {bits:?}"));
        }
    }
}

/// Lanes of two vectors in any order.
struct Permutes;
impl SimdTask for Permutes {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let (a, b) = (vector(simd, |i| i as f32), vector(simd, |i| (S::LANES + i) as f32));
        let mut failures = Vec::new();
        for factor in 0..2 * S::LANES {
            let index = |i: usize| ((i * factor + factor / 3) % (2 * S::LANES)) as i32;
            let permuted = lanes_of(simd, simd.permute_pair(a, b, integer_vector(simd, index)));
            for (i, x) in permuted.into_iter().enumerate() {
                if x != index(i) as f32 {
                    failures.push(format!("permute_pair: {x} instead of {} in lane {i}", index(i)));
                }
            }
        }
        failures
    }
}

#[test]
fn pairs_are_permuted() {
    failures_at_every_level(|level| level.run(Permutes));
}

/// Products and stores of bfloat16, whatever stands for subnormal numbers.
struct Brains;
impl SimdTask for Brains {
    type Output = Vec<String>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<String> {
        let failures = &mut Vec::new();
        let edges = (0..=u16::MAX).flat_map(|bits| {
            let x = half::bf16::from_bits(bits).to_f32().to_bits();
            [x, x + 0x7fff, x + 0x8000, x + 0x8001]
        });
        let floats: Vec<f32> =
            edges.map(f32::from_bits).chain(FLOATS).filter(|x| !x.is_subnormal()).collect();
        for (start, chunk) in floats.chunks(S::LANES).enumerate() {
            let x = |i: usize| chunk.get(i).copied().unwrap_or(0.0);
            let n = S::LANES - start % S::LANES;
            let mut bits = [9u16; MAX_LANES];
            // SAFETY: the array has at least LANES elements.
            unsafe { simd.store_bf16(bits.as_mut_ptr(), vector(simd, x), n) };
            for (i, &bits) in bits.iter().enumerate() {
                let expected = if i < n { half::bf16::from_f32(x(i)) } else { half::bf16::from_bits(9) };
                let actual = half::bf16::from_bits(bits);
                if actual.to_bits() != expected.to_bits() && !(actual.is_nan() && expected.is_nan()) {
                    failures.push(format!("store_bf16({:e}) = {actual} instead of {expected}", x(i)));
                }
            }
        }
        let brain = |i: usize| half::bf16::from_f32((i * 37 % 101) as f32 * 0.37 - 17.0);
        let pair =
            |i: usize| (u32::from(brain(i).to_bits()) | u32::from(brain(i + 5).to_bits()) << 16) as i32;
        let product = |i: usize, j: usize| brain(i).to_f32() * brain(j).to_f32();
        for shift in 0..100 {
            let sum = vector(simd, |i| i as f32);
            let (a, b) = (integer_vector(simd, pair), integer_vector(simd, |i| pair(i + shift)));
            let expected = |i: usize| i as f32 + product(i + 5, i + shift + 5) + product(i, i + shift);
            for (i, x) in lanes_of(simd, simd.dot_bf16(sum, a, b)).into_iter().enumerate() {
                // Two roundings of sums that may cancel.
                if (x - expected(i)).abs() > 1e-4 {
                    failures.push(format!("dot_bf16: {x} instead of {} in lane {i}", expected(i)));
                }
            }
        }
        std::mem::take(failures)
    }
}

#[test]
fn brain_floats_are_rounded_and_multiplied() {
    failures_at_every_level(|level| level.run(Brains));
    failures_at_every_level(|level| level.run_bf16(Brains));
}

#[test]
fn half_floats_of_every_value() {
    failures_at_every_level(|level| level.run(Halves));
}

#[test]
fn levels_have_names_and_lanes() {
    struct Lanes;
    impl SimdTask for Lanes {
        type Output = (usize, Level);
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> (usize, Level) {
            (S::LANES, S::LEVEL)
        }
    }
    for level in Level::ALL {
        assert_eq!(Level::from_name(level.name()), Some(level));
    }
    for level in Level::available() {
        // The portable vectors are the built-in ones there.
        let is_built_in = level == Level::Portable && Level::Neon.is_available();
        assert_eq!(level.run_vnni(Lanes), (level.lanes(), if is_built_in { Level::Neon } else { level }));
        let base = if level == Level::Avx512Vnni { Level::Avx512 } else { level };
        assert_eq!(level.run(Lanes), base.run_vnni(Lanes));
    }
    assert_eq!(Level::from_name("none"), None);
}
