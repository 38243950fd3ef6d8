//! Counts of n-grams.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Comparison, Reduction};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::attributes::missing;
use super::super::node::{NodeReader, support, unsupported};

/// How many columns a result may have.
const MAX_COLUMNS: i64 = 1 << 24;

/// The n-grams of one length that are counted.
struct Grams<'a> {
    length: usize,
    tokens: &'a [i64],
    /// The column of each.
    columns: &'a [i64],
    /// What each counts; one where there are none.
    weights: Option<&'a [f32]>,
}

/// For each row how often n-grams occur in it, whose tokens may have up to "max_skip_count" others between them.
pub(super) fn tf_idf(node: &mut NodeReader<'_, '_>) -> Result<()> {
    support(node.attributes.strings("pool_strings")?.is_none(), "strings")?;
    let mode = node.attributes.string_or("mode", "TF")?;
    let least = node.attributes.count_or("min_gram_length", 1)?;
    let most = node.attributes.count_or("max_gram_length", 1)?;
    let skips = node.attributes.count_or("max_skip_count", 0)?;
    let starts = node.attributes.counts("ngram_counts")?.ok_or_else(|| missing("ngram_counts"))?;
    let columns = node.attributes.ints("ngram_indexes")?.ok_or_else(|| missing("ngram_indexes"))?;
    let pool = node.attributes.ints("pool_int64s")?.ok_or_else(|| missing("pool_int64s"))?;
    let weights = node.attributes.floats("weights")?.filter(|_| mode != "TF");
    if !["TF", "IDF", "TFIDF"].contains(&mode) {
        return Err(Error::model(format!("the mode {mode:?}")));
    }
    let width = columns.iter().max().map_or(0, |&last| last.saturating_add(1));
    if columns.iter().any(|&column| !(0..MAX_COLUMNS).contains(&column)) {
        return Err(Error::model("an index of an n-gram that is no column"));
    }
    let x = node.required(0)?;
    let Some(dims) = node.inferred_dims(x) else { return unsupported("rows of unknown length") };
    let (is_row, length) = match dims.as_slice() {
        [Some(length)] => (true, *length as usize),
        [_, Some(length)] => (false, *length as usize),
        _ => return unsupported("rows of unknown length"),
    };
    let x = node.cast(x, ElementType::I64);
    let x = if is_row { node.unsqueeze(x, &[0]) } else { x };
    let mut sum = None;
    for grams in by_length(&starts, &pool, &columns, weights.as_deref())? {
        if !(least..=most).contains(&grams.length) || grams.columns.is_empty() {
            continue;
        }
        let Some(mut counts) = counts(node, x, length, skips, &grams)? else { continue };
        if mode == "IDF" {
            let one = node.add_constant("one", Tensor::scalar(1f32)?);
            counts = node.binary(Binary::Min, counts, one);
        }
        let placed = placed(node, counts, &grams, width as usize)?;
        sum = Some(sum.map_or(placed, |sum| node.binary(Binary::Add, sum, placed)));
    }
    let y = match sum {
        Some(sum) => sum,
        None => return unsupported("no n-gram that fits into a row"),
    };
    let y = if is_row { node.squeeze(y, &[0]) } else { y };
    node.give(0, y);
    Ok(())
}

/// The pool, in which n-grams stand by their lengths.
fn by_length<'a>(
    starts: &[usize],
    pool: &'a [i64],
    columns: &'a [i64],
    weights: Option<&'a [f32]>,
) -> Result<Vec<Grams<'a>>> {
    let wrong = || Error::model("the pool, its counts, its indices and its weights do not fit each other");
    let (mut all, mut first) = (Vec::new(), 0);
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(pool.len());
        let tokens = pool.get(start..end).ok_or_else(wrong)?;
        let (length, behind) = (index + 1, first + tokens.len() / (index + 1));
        if !tokens.len().is_multiple_of(length) {
            return Err(wrong());
        }
        let columns = columns.get(first..behind).ok_or_else(wrong)?;
        let weights = weights.map(|weights| weights.get(first..behind).ok_or_else(wrong)).transpose()?;
        all.push(Grams { length, tokens, columns, weights });
        first = behind;
    }
    Ok(all)
}

/// How often each n-gram is in each row; `None` where rows are too short.
fn counts(
    node: &mut NodeReader<'_, '_>,
    x: ValueId,
    length: usize,
    skips: usize,
    grams: &Grams<'_>,
) -> Result<Option<ValueId>> {
    let skips = if grams.length == 1 { 0 } else { skips.min(length) };
    let mut tokens = Vec::with_capacity(grams.length);
    for position in 0..grams.length {
        let column: Vec<i64> = grams.tokens.iter().copied().skip(position).step_by(grams.length).collect();
        tokens.push(node.add_i64s("tokens", &column)?);
    }
    let mut sum = None;
    for distance in 1..=skips + 1 {
        let Some(places) = length.checked_sub((grams.length - 1) * distance).filter(|&places| places > 0)
        else {
            break;
        };
        let mut found = None;
        for (position, &token) in tokens.iter().enumerate() {
            let start = position * distance;
            let part = node.slice(x, 1, start as i64, (start + places) as i64)?;
            let part = node.unsqueeze(part, &[2]);
            let is_equal = node.compare(Comparison::Equal, part, token);
            found = Some(found.map_or(is_equal, |found| node.binary(Binary::And, found, is_equal)));
        }
        let Some(found) = found else { break };
        let found = node.cast(found, ElementType::F32);
        let count = node.reduce(Reduction::Sum, found, Some(&[1]), false);
        sum = Some(sum.map_or(count, |sum| node.binary(Binary::Add, sum, count)));
    }
    Ok(sum)
}

/// The counts in their columns, weighted.
fn placed(
    node: &mut NodeReader<'_, '_>,
    counts: ValueId,
    grams: &Grams<'_>,
    width: usize,
) -> Result<ValueId> {
    let size = width.checked_mul(grams.columns.len()).filter(|&size| size <= 1 << 28);
    let size = size.ok_or_else(|| Error::not_implemented("so many n-grams"))?;
    let mut matrix = vec![0f32; size];
    for (row, &column) in grams.columns.iter().enumerate() {
        matrix[row * width + column as usize] = grams.weights.map_or(1.0, |weights| weights[row]);
    }
    let matrix = node.add_constant("columns", Tensor::from_slice(&[grams.columns.len(), width], &matrix)?);
    Ok(node.matmul(counts, matrix))
}

#[cfg(test)]
mod tests {
    use optimium_graph::Graph;
    use optimium_tensor::ErrorKind;

    use super::super::super::proto::NodeProto;
    use super::super::super::testing::{graph, node, read_graph, value};
    use super::*;

    fn read(node: NodeProto) -> Result<Graph> {
        read_graph(9, graph(vec![value("x", &["2", "6"])], vec![], vec![node]))
    }

    fn vectorizer(counts: &[i64], indices: &[i64], pool: &[i64]) -> NodeProto {
        node("TfIdfVectorizer", &["x"], &["y"])
            .text("mode", "TF")
            .int("min_gram_length", 1)
            .int("max_gram_length", 2)
            .int("max_skip_count", 1)
            .ints("ngram_counts", counts)
            .ints("ngram_indexes", indices)
            .ints("pool_int64s", pool)
    }

    #[test]
    fn pools_are_divided_by_length() {
        let grams = by_length(&[0, 2], &[7, 8, 1, 2, 3, 4], &[3, 2, 1, 0], None).unwrap();
        let found: Vec<_> = grams.iter().map(|grams| (grams.length, grams.tokens, grams.columns)).collect();
        assert_eq!(found, [(1, &[7, 8][..], &[3, 2][..]), (2, &[1, 2, 3, 4], &[1, 0])]);
    }

    #[test]
    fn become_comparisons_and_a_product() {
        let read = read(vectorizer(&[0, 2], &[3, 2, 1, 0], &[7, 8, 1, 2, 3, 4])).unwrap();
        let count = |name: &str| read.nodes().iter().filter(|node| node.op.name() == name).count();
        // Words at one place, pairs side by side and with one between them.
        assert_eq!((count("Equal"), count("And"), count("MatMul")), (5, 2, 2));
    }

    #[test]
    fn damaged_pools_are_errors() {
        let cases = [
            vectorizer(&[0, 9], &[0], &[7]),
            vectorizer(&[0, 1], &[0, 1], &[7, 1, 2, 3]),
            vectorizer(&[0], &[-1], &[7]),
            vectorizer(&[0], &[i64::MAX], &[7]),
            vectorizer(&[0, 1], &[0], &[7, 1, 2]),
        ];
        for node in cases {
            let shown = format!("{node:?}");
            assert_eq!(read(node).map(|_| ()).unwrap_err().kind(), ErrorKind::Model, "{shown}");
        }
    }
}
