//! Offsets for blocks of memory whose lifetimes are known.
//!
//! Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): the
//! largest block first, each into the smallest gap that is free for its whole life.

/// Alignment of every block, in bytes.
const ALIGNMENT: usize = 64;

/// A block of memory: its size in bytes, and the first and last step that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) bytes: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Block {
    fn overlaps(&self, other: &Block) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// An offset for every block, and the size of the whole. With `share` blocks that never live together may overlap.
pub(crate) fn lay_out(blocks: &[Block], share: bool) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    if share {
        order.sort_by_key(|&i| (std::cmp::Reverse(blocks[i].bytes), blocks[i].first));
    }
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    let mut total = 0;
    for index in order {
        let block = blocks[index];
        let size = block.bytes.next_multiple_of(ALIGNMENT);
        let offset = if share { best_gap(blocks, &offsets, &placed, block, size) } else { total };
        offsets[index] = offset;
        total = total.max(offset + size);
        let position = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(position, index);
    }
    (offsets, total)
}

/// The smallest gap between placed blocks (sorted by offset) that lives along with `block`.
fn best_gap(blocks: &[Block], offsets: &[usize], placed: &[usize], block: Block, size: usize) -> usize {
    let mut end = 0;
    let mut best: Option<(usize, usize)> = None;
    for &other in placed.iter().filter(|&&other| blocks[other].overlaps(&block)) {
        let gap = offsets[other].saturating_sub(end);
        if gap >= size && best.is_none_or(|(smallest, _)| gap < smallest) {
            best = Some((gap, end));
        }
        end = end.max(offsets[other] + blocks[other].bytes.next_multiple_of(ALIGNMENT));
    }
    best.map_or(end, |(_, offset)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::Random;

    #[test]
    fn living_blocks_never_overlap() {
        let mut random = Random::new(1);
        for round in 0..200 {
            let blocks: Vec<Block> = (0..round % 40)
                .map(|_| {
                    let first = random.range(0, 30) as usize;
                    Block {
                        bytes: random.range(0, 5000) as usize,
                        first,
                        last: first + random.range(0, 8) as usize,
                    }
                })
                .collect();
            for share in [true, false] {
                let (offsets, total) = lay_out(&blocks, share);
                for (i, a) in blocks.iter().enumerate() {
                    assert!(offsets[i].is_multiple_of(ALIGNMENT) && offsets[i] + a.bytes <= total);
                    for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                        let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                        assert!(
                            apart || (share && !a.overlaps(b)),
                            "{a:?} at {} and {b:?} at {}",
                            offsets[i],
                            offsets[j]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_blocks() {
        let blocks: Vec<Block> = (0..10).map(|i| Block { bytes: 1024, first: i, last: i + 1 }).collect();
        assert_eq!(lay_out(&blocks, true).1, 2048);
        assert_eq!(lay_out(&blocks, false).1, 10240);
    }
}
