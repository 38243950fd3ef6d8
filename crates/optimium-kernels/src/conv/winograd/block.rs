//! The points of a block of tiles.

/// How the points of a block of tiles lie in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Points {
    /// Tiles of the block.
    pub(super) tiles: usize,
    /// Elements of a row: the channels of one point of one tile, filled up to whole cache lines.
    pub(super) channels: usize,
    /// Elements from tile to tile.
    pub(super) tile_stride: usize,
    /// Elements from point to point.
    pub(super) point_stride: usize,
}

/// Elements of a cache line, a multiple of every vector's.
const LINE: usize = 16;

impl Points {
    /// For `tiles` tiles of so many channels: `[point][tile][channel]`, with a gap between the points, so that
    /// they do not compete for the same places in the cache.
    pub(super) fn new(tiles: usize, channels: usize) -> Points {
        let channels = channels.next_multiple_of(LINE);
        Points { tiles, channels, tile_stride: channels, point_stride: tiles * channels + LINE }
    }

    /// Elements of all `points` points.
    pub(super) fn len(&self, points: usize) -> usize {
        points * self.point_stride
    }
}
