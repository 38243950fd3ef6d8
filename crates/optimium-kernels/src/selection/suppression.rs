//! Suppression of boxes that overlap better ones.

/// What the four numbers of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxFormat {
    /// Two opposite corners: y, x, y, x.
    Corners,
    /// Center x, center y, width, height.
    Center,
}

/// Boxes in the form that overlaps are computed from, coordinate by coordinate.
#[derive(Clone, Debug, Default)]
pub struct Boxes {
    left: Vec<f32>,
    top: Vec<f32>,
    right: Vec<f32>,
    bottom: Vec<f32>,
    area: Vec<f32>,
}

impl Boxes {
    /// The boxes that `numbers` are: four for each.
    pub fn new(numbers: &[f32], format: BoxFormat) -> Boxes {
        let mut boxes = Boxes::default();
        for four in numbers.chunks_exact(4) {
            let (x, y) = match format {
                BoxFormat::Corners => ((four[1], four[3]), (four[0], four[2])),
                BoxFormat::Center => (
                    (four[0] - four[2] / 2.0, four[0] + four[2] / 2.0),
                    (four[1] - four[3] / 2.0, four[1] + four[3] / 2.0),
                ),
            };
            boxes.push([x.0.min(x.1), y.0.min(y.1), x.0.max(x.1), y.0.max(y.1)]);
        }
        boxes
    }

    /// Number of boxes.
    pub fn len(&self) -> usize {
        self.area.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.area.is_empty()
    }

    fn push(&mut self, [left, top, right, bottom]: [f32; 4]) {
        self.left.push(left);
        self.top.push(top);
        self.right.push(right);
        self.bottom.push(bottom);
        self.area.push((right - left) * (bottom - top));
    }

    fn get(&self, index: usize) -> [f32; 4] {
        [self.left[index], self.top[index], self.right[index], self.bottom[index]]
    }

    /// Whether any of the boxes overlaps this one by more than `threshold`: intersection over union. Boxes without an area
    /// overlap nothing.
    fn overlaps(&self, [left, top, right, bottom]: [f32; 4], threshold: f32) -> bool {
        /// Boxes that are looked at together: the loop over them has no branch, which makes vectors of it.
        const AT_ONCE: usize = 16;
        let area = (right - left) * (bottom - top);
        let overlaps = |i: usize| {
            let width = (right.min(self.right[i]) - left.max(self.left[i])).max(0.0);
            let height = (bottom.min(self.bottom[i]) - top.max(self.top[i])).max(0.0);
            let intersection = width * height;
            let union = area + self.area[i] - intersection;
            (area > 0.0) & (self.area[i] > 0.0) & (intersection > 0.0) & (intersection / union > threshold)
        };
        let starts = (0..self.len()).step_by(AT_ONCE);
        let mut groups = starts.map(|start| start..(start + AT_ONCE).min(self.len()));
        groups.any(|group| group.fold(false, |any, i| any | overlaps(i)))
    }
}

/// Which boxes are kept.
#[derive(Clone, Copy, Debug)]
pub struct Suppression {
    /// So many at most.
    pub limit: usize,
    /// Boxes that overlap a better one by more than this are left out: intersection over union.
    pub overlap: f32,
    /// Boxes are left out whose score is not larger than this.
    pub score: Option<f32>,
}

impl Suppression {
    /// The indices of those `boxes` that are kept, by falling score; equal scores leave them in their order.
    ///
    /// # Panics
    /// Where there is not a score for each box.
    pub fn keep(&self, boxes: &Boxes, scores: &[f32]) -> Vec<usize> {
        assert_eq!(boxes.len(), scores.len(), "a score for each box");
        if self.limit == 0 {
            return Vec::new();
        }
        let is_good = |&index: &usize| self.score.is_none_or(|least| scores[index] > least);
        let mut candidates: Vec<usize> = (0..scores.len()).filter(is_good).collect();
        candidates.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let (mut kept, mut indices) = (Boxes::default(), Vec::new());
        for index in candidates {
            if indices.len() == self.limit {
                break;
            }
            let candidate = boxes.get(index);
            if !kept.overlaps(candidate, self.overlap) {
                kept.push(candidate);
                indices.push(index);
            }
        }
        indices
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, each_case};

    use super::*;

    /// Intersection over union of two boxes given by their corners.
    fn overlap(a: &[f32], b: &[f32]) -> f32 {
        let span =
            |box_: &[f32], axis: usize| (box_[axis].min(box_[axis + 2]), box_[axis].max(box_[axis + 2]));
        let common = |axis: usize| {
            let ((a0, a1), (b0, b1)) = (span(a, axis), span(b, axis));
            (a1.min(b1) - a0.max(b0)).max(0.0)
        };
        let area = |box_: &[f32]| {
            let ((y0, y1), (x0, x1)) = (span(box_, 0), span(box_, 1));
            (x1 - x0) * (y1 - y0)
        };
        let intersection = common(0) * common(1);
        if intersection > 0.0 { intersection / (area(a) + area(b) - intersection) } else { 0.0 }
    }

    fn naive(boxes: &[f32], scores: &[f32], how: &Suppression) -> Vec<usize> {
        let mut left: Vec<usize> =
            (0..scores.len()).filter(|&i| how.score.is_none_or(|least| scores[i] > least)).collect();
        let mut kept: Vec<usize> = Vec::new();
        while let Some(best) = left.iter().copied().reduce(|a, b| if scores[b] > scores[a] { b } else { a }) {
            left.retain(|&index| index != best);
            let four = |index: usize| &boxes[4 * index..4 * index + 4];
            if kept.len() < how.limit
                && kept.iter().all(|&other| overlap(four(other), four(best)) <= how.overlap)
            {
                kept.push(best);
            }
        }
        kept
    }

    #[test]
    fn keeps_what_a_naive_search_keeps() {
        let mut random = Random::new(7);
        let mut cases = Vec::new();
        for count in [0, 1, 2, 15, 16, 17, 33, 200] {
            for (limit, overlap, score) in [
                (0, 0.5, None),
                (3, 0.5, None),
                (1000, 0.3, Some(0.1)),
                (1000, 0.0, None),
                (1000, 1.0, Some(-2.0)),
            ] {
                let boxes: Vec<f32> = random.floats(4 * count);
                cases.push((boxes, random.floats(count), Suppression { limit, overlap, score }));
            }
        }
        each_case(cases, |(boxes, scores, how)| {
            let found = how.keep(&Boxes::new(boxes, BoxFormat::Corners), scores);
            let expected = naive(boxes, scores, how);
            if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
        });
    }

    #[test]
    fn centers_are_the_same_boxes() {
        let corners = [1.0, 2.0, 3.0, 6.0];
        let center = [4.0, 2.0, 4.0, 2.0];
        let (a, b) = (Boxes::new(&corners, BoxFormat::Corners), Boxes::new(&center, BoxFormat::Center));
        assert_eq!(a.get(0), b.get(0));
    }

    #[test]
    fn values_that_are_no_numbers_end() {
        let boxes = Boxes::new(&[f32::NAN; 12], BoxFormat::Corners);
        let how = Suppression { limit: 9, overlap: 0.5, score: None };
        assert_eq!(how.keep(&boxes, &[f32::NAN, 1.0, f32::INFINITY]).len(), 3);
    }
}
