//! The Mersenne Twister MT19937 of Matsumoto and Nishimura (ACM TOMACS 8, 1998), seeded and read as NumPy's `RandomState` does, so that
//! seeded operators give the numbers of ONNX's reference implementation.

use std::hash::{BuildHasher, Hasher, RandomState};

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// A sequence of random numbers.
pub(crate) struct Generator {
    words: [u32; WORDS],
    next: usize,
    /// Gaussian numbers come in pairs.
    second: Option<f64>,
}

impl Generator {
    /// The sequence of a seed; an arbitrary one where there is none.
    pub(crate) fn new(seed: Option<u32>) -> Generator {
        // The standard library makes another hasher each time.
        let mut word = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() as u32);
        let mut words = [0; WORDS];
        for (index, place) in (1..).zip(&mut words) {
            *place = word;
            word = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(index);
        }
        Generator { words, next: WORDS, second: None }
    }

    fn refill(&mut self) {
        for index in 0..WORDS {
            let (this, following) = (self.words[index], self.words[(index + 1) % WORDS]);
            let mixed = (this & 0x8000_0000) | (following & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[index] = self.words[(index + MIDDLE) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number from zero on and below one.
    pub(crate) fn uniform(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * f64::from(1u32 << 26) + f64::from(low)) / (1u64 << 53) as f64
    }

    /// A number of mean zero and variance one, by Marsaglia's polar method.
    pub(crate) fn normal(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = a * a + b * b;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.second = Some(factor * a);
                return factor * b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_give_the_numbers_of_numpy() {
        // numpy.random.RandomState(seed).random_sample(3) and .standard_normal(3)
        let cases = [
            (
                0u32,
                [0.5488135039273248, 0.7151893663724195, 0.6027633760716439],
                [1.764052345967664, 0.4001572083672233, 0.9787379841057392],
            ),
            (
                42u32,
                [0.3745401188473625, 0.9507143064099162, 0.7319939418114051],
                [0.4967141530112327, -0.13826430117118466, 0.6476885381006925],
            ),
            (
                4294967295u32,
                [0.0976320289940138, 0.9123828453026218, 0.78903530185164],
                [0.6484086742306527, 0.6693235306338161, -1.0805437227474493],
            ),
        ];
        for (seed, uniform, normal) in cases {
            let mut generator = Generator::new(Some(seed));
            assert_eq!([(); 3].map(|()| generator.uniform()), uniform);
            let mut generator = Generator::new(Some(seed));
            for expected in normal {
                assert!((generator.normal() - expected).abs() < 1e-15 * expected.abs().max(1.0));
            }
        }
        let mut generator = Generator::new(Some(5));
        let last = (0..2000).map(|_| generator.uniform()).last();
        assert_eq!(last, Some(0.4034382345499419));
    }

    #[test]
    fn without_a_seed_numbers_differ() {
        let first = || Generator::new(None).uniform();
        let numbers: std::collections::HashSet<u64> = (0..100).map(|_| first().to_bits()).collect();
        assert!(numbers.len() > 90, "{}", numbers.len());
    }
}
