//! The distinct items of a tensor along an axis.

use std::cmp::Ordering;

/// How values compare: a total order in which all NaN are one value, behind every number, and both zeros are one.
pub trait Order: Copy {
    /// Which comes first.
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! order_of_integers {
    ($($T:ty),*) => { $(impl Order for $T {
        fn order(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    })* };
}
order_of_integers!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! order_of_reals {
    ($($T:ty),*) => { $(impl Order for $T {
        fn order(&self, other: &Self) -> Ordering {
            self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
        }
    })* };
}
order_of_reals!(f32, f64, half::f16, half::bf16);

/// A tensor as items along one of its axes: `outer · count · inner` elements.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a, T> {
    /// All elements, in order.
    pub data: &'a [T],
    /// Product of the dimensions before the axis.
    pub outer: usize,
    /// Number of items: the size of the axis.
    pub count: usize,
    /// Product of the dimensions behind the axis.
    pub inner: usize,
}

impl<T: Order> Items<'_, T> {
    /// The elements of an item, in runs that lie together.
    fn runs(&self, item: usize) -> impl Iterator<Item = &[T]> {
        (0..self.outer).map(move |outer| {
            let start = (outer * self.count + item) * self.inner;
            &self.data[start..start + self.inner]
        })
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let elements = |item| self.runs(item).flatten();
        let differ = elements(a).zip(elements(b)).map(|(a, b)| a.order(b)).find(|order| order.is_ne());
        differ.unwrap_or(Ordering::Equal)
    }
}

/// Which items there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unique {
    /// Of each distinct item the index where it occurs first.
    pub first: Vec<usize>,
    /// Of each item its index among the distinct ones.
    pub inverse: Vec<usize>,
    /// How often each distinct item occurs.
    pub counts: Vec<usize>,
}

/// The distinct items: in ascending order where `sorted`, otherwise in that of their first occurrence.
///
/// # Panics
/// Where there are not as many elements as the sizes say.
pub fn unique<T: Order>(items: Items<'_, T>, sorted: bool) -> Unique {
    assert_eq!(
        items.data.len(),
        items.outer * items.count * items.inner,
        "elements of {} items",
        items.count
    );
    let mut order: Vec<usize> = (0..items.count).collect();
    // A stable sort leaves equal items in their order: the first of each group occurs first.
    order.sort_by(|&a, &b| items.compare(a, b));
    let mut groups: Vec<&[usize]> = order.chunk_by(|&a, &b| items.compare(a, b).is_eq()).collect();
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let mut found = Unique { inverse: vec![0; items.count], ..Unique::default() };
    for (index, group) in groups.into_iter().enumerate() {
        found.first.push(group[0]);
        found.counts.push(group.len());
        group.iter().for_each(|&item| found.inverse[item] = index);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T: Order>(data: &[T], (outer, count, inner): (usize, usize, usize), sorted: bool) -> Unique {
        unique(Items { data, outer, count, inner }, sorted)
    }

    #[test]
    fn distinct_numbers() {
        let x = [2.0f32, 1.0, 1.0, f32::NAN, 3.0, -0.0, 0.0, f32::NAN];
        let sorted = of(&x, (1, 8, 1), true);
        assert_eq!(sorted.first, [5, 1, 0, 4, 3]);
        assert_eq!(sorted.inverse, [2, 1, 1, 4, 3, 0, 0, 4]);
        assert_eq!(sorted.counts, [2, 2, 1, 1, 2]);
        let unsorted = of(&x, (1, 8, 1), false);
        assert_eq!(unsorted.first, [0, 1, 3, 4, 5]);
        assert_eq!(unsorted.inverse, [0, 1, 1, 2, 3, 4, 4, 2]);
        assert_eq!(unsorted.counts, [1, 2, 2, 1, 2]);
    }

    #[test]
    fn distinct_rows_and_columns() {
        let x = [1i64, 0, 0, 1, 0, 0, 2, 3, 4];
        assert_eq!(
            of(&x, (1, 3, 3), true),
            Unique { first: vec![0, 2], inverse: vec![0, 0, 1], counts: vec![2, 1] }
        );
        let columns = [1u8, 1, 0, 2, 2, 5];
        assert_eq!(
            of(&columns, (2, 3, 1), true),
            Unique { first: vec![2, 0], inverse: vec![1, 1, 0], counts: vec![1, 2] }
        );
    }

    #[test]
    fn nothing_has_nothing_distinct() {
        assert_eq!(of::<i32>(&[], (1, 0, 1), true), Unique::default());
        assert_eq!(of::<i32>(&[], (1, 3, 0), true).counts, [3], "items without elements are all the same");
    }
}
