//! Which symbols an expression depends on, in a form that is quick to compare.

use std::sync::Arc;

use optimium_tensor::{Expr, SymbolValues};

/// A set of symbols of one [`SymbolOrder`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SymbolSet(u64);

impl SymbolSet {
    /// What is in either.
    #[must_use]
    pub(crate) fn with(self, other: SymbolSet) -> SymbolSet {
        SymbolSet(self.0 | other.0)
    }

    /// Whether something is in both.
    pub(crate) fn meets(self, other: SymbolSet) -> bool {
        self.0 & other.0 != 0
    }
}

/// Numbers for symbols.
#[derive(Debug)]
pub(crate) struct SymbolOrder(Vec<Arc<str>>);

impl SymbolOrder {
    /// Numbers for those that have values.
    pub(crate) fn new(values: &SymbolValues) -> SymbolOrder {
        SymbolOrder(values.keys().cloned().collect())
    }

    /// The symbols in `expr`.
    pub(crate) fn set_of(&self, expr: &Expr) -> SymbolSet {
        let mut set = SymbolSet::default();
        expr.visit_symbols(&mut |symbol| {
            let number = self.0.iter().position(|known| known == symbol).unwrap_or(self.0.len());
            set = set.with(SymbolOrder::bit(number));
        });
        set
    }

    /// The symbols that do not have the same value in both.
    pub(crate) fn changes(&self, before: &SymbolValues, after: &SymbolValues) -> SymbolSet {
        let differs = |symbol: &Arc<str>| before.get(symbol) != after.get(symbol);
        let numbers = (0..self.0.len()).filter(|&number| differs(&self.0[number]));
        numbers.fold(SymbolSet::default(), |set, number| set.with(SymbolOrder::bit(number)))
    }

    /// The last bit stands for all that have none of their own: a set may seem to have more in it than it has.
    fn bit(number: usize) -> SymbolSet {
        SymbolSet(1 << number.min(63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_a_change_is_known() {
        let names: Vec<Arc<str>> = (0..100).map(|number| format!("s{number}").into()).collect();
        let values = |changed: usize| -> SymbolValues {
            let value = |number: usize| i64::from(number == changed);
            names.iter().enumerate().map(|(number, name)| (name.clone(), value(number))).collect()
        };
        let before = values(1000);
        let order = SymbolOrder::new(&before);
        assert_eq!(order.changes(&before, &before), SymbolSet::default());
        let mut mistaken = 0;
        for changed in 0..100 {
            let changes = order.changes(&before, &values(changed));
            for (number, name) in names.iter().enumerate() {
                let expr = Expr::symbol(name) * Expr::symbol("s0") + 3i64.into();
                let depends = order.set_of(&expr).meets(changes);
                assert!(depends || (number != changed && changed != 0));
                mistaken += usize::from(depends && number != changed && changed != 0);
            }
            assert!(!order.set_of(&7i64.into()).meets(changes));
        }
        assert!(mistaken < 100 * 100 / 2, "{mistaken}");
    }
}
