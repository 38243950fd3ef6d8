//! Weights in the order of a backend's kernels, kept from one compilation to the next.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use optimium_tensor::Buffer;

/// Blocks of packed weights that were kept, by key. Cloning shares them.
#[derive(Clone)]
pub struct PackedWeights {
    buffer: Arc<Buffer>,
    places: Arc<HashMap<String, Range<usize>>>,
}

impl PackedWeights {
    /// Blocks that lie in `buffer`, which nobody writes, at these ranges of bytes.
    pub fn new(buffer: Arc<Buffer>, places: HashMap<String, Range<usize>>) -> PackedWeights {
        PackedWeights { buffer, places: Arc::new(places) }
    }

    /// The memory of the block of that key, and the offset of its first byte; `None` where there is no such block of so many
    /// bytes. What it holds may come from anywhere: only results may depend on it.
    pub fn find(&self, key: &str, bytes: usize) -> Option<(&Arc<Buffer>, usize)> {
        let place = self.places.get(key)?;
        (place.len() == bytes && place.end <= self.buffer.len()).then_some((&self.buffer, place.start))
    }
}

impl PartialEq for PackedWeights {
    /// Whether they are the same blocks in the same memory.
    fn eq(&self, other: &PackedWeights) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer) && Arc::ptr_eq(&self.places, &other.places)
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedWeights").field("blocks", &self.places.len()).finish_non_exhaustive()
    }
}

/// A block of packed weights of a compiled graph.
#[derive(Clone, Debug)]
pub struct PackedBlock<'a> {
    /// What it is: equal keys of one graph mean equal bytes, also in another compilation by another version of the backend.
    pub key: String,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Whether it was kept from an earlier compilation.
    pub kept: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_key_and_size() {
        let buffer = Arc::new(Buffer::zeroed(128).unwrap());
        let places = HashMap::from([("a".to_owned(), 0..64), ("beyond".to_owned(), 64..192)]);
        let packed = PackedWeights::new(buffer, places);
        assert_eq!(packed.find("a", 64).map(|(_, offset)| offset), Some(0));
        assert!(packed.find("a", 63).is_none());
        assert!(packed.find("b", 64).is_none());
        assert!(packed.find("beyond", 128).is_none());
        assert_eq!(packed, packed.clone());
    }
}
