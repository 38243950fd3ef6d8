//! Names that people know from their model, through all that simplification does.
//!
//! Passes note where a tensor moves to, one move at a time, in [`Graph::origins`]. Afterwards the moves are followed to what
//! is there now; a value that holds a tensor of the model in another layout alone takes its name; and a tensor that is nowhere
//! any more is said to be part of the first tensor behind it that is.

use std::collections::{HashMap, HashSet, VecDeque};

use super::permutation::compose;
use crate::{Graph, Origin, Origins, ValueId};

/// The tensors of a model as it was read, constants included, and who reads them.
pub(super) struct Names(Vec<Original>);

struct Original {
    name: String,
    /// The places in the list of what is computed from it.
    readers: Vec<usize>,
}

/// What holds a tensor, and the axis of it that each axis of the tensor is.
struct Place {
    value: ValueId,
    permutation: Vec<usize>,
}

impl Names {
    pub(super) fn of(graph: &Graph) -> Names {
        let is_constant = |id: &ValueId| graph.value(*id).constant.is_some();
        let computed = graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten().copied());
        let constants = (0..graph.values().len()).map(ValueId::from_index).filter(is_constant);
        let mut places = HashMap::new();
        let mut names = Vec::new();
        for id in computed.chain(constants).filter(|id| !graph.value(*id).name.is_empty()) {
            places.insert(id, names.len());
            names.push(Original { name: graph.value(id).name.clone(), readers: Vec::new() });
        }
        for node in graph.nodes() {
            let results: Vec<usize> =
                node.outputs.iter().flatten().filter_map(|id| places.get(id).copied()).collect();
            for place in node.inputs.iter().flatten().filter_map(|id| places.get(id)) {
                names[*place].readers.extend(&results);
            }
        }
        Names(names)
    }

    /// Replaces the moves in `graph` by what became of every tensor.
    pub(super) fn settle(&self, graph: &mut Graph) {
        let moves = std::mem::take(&mut graph.origins);
        let values: HashMap<&str, ValueId> = graph
            .values()
            .iter()
            .enumerate()
            .map(|(index, value)| (value.name.as_str(), ValueId::from_index(index)))
            .collect();
        let places: Vec<Option<Place>> =
            self.0.iter().map(|original| follow(&original.name, &[], &moves, &values)).collect();
        let new_names = self.new_names(graph, &places);
        let mut origins = Origins::new();
        for (index, (original, place)) in self.0.iter().zip(&places).enumerate() {
            let origin = match place {
                Some(place) => {
                    let value = new_names.get(&place.value).unwrap_or(&graph.value(place.value).name).clone();
                    Some(Origin::Held { value, permutation: place.permutation.clone() })
                }
                None => self.behind(index, &places).map(|into| Origin::Fused { into }),
            };
            let unmoved = Origin::Held { value: original.name.clone(), permutation: Vec::new() };
            if let Some(origin) = origin.filter(|origin| *origin != unmoved) {
                origins.insert(original.name.clone(), origin);
            }
        }
        for (name, origin) in self.layouts_of_copies(graph, &moves, &values) {
            origins.entry(name).or_insert(origin);
        }
        graph.origins = origins;
        for (value, name) in new_names {
            graph.value_mut(value).name = name;
        }
    }

    /// What is to be known of values that hold a tensor in another layout beside the value of its name.
    fn layouts_of_copies(
        &self,
        graph: &Graph,
        moves: &Origins,
        values: &HashMap<&str, ValueId>,
    ) -> Vec<(String, Origin)> {
        let known: HashSet<&str> = self.0.iter().map(|original| original.name.as_str()).collect();
        let mut layouts = Vec::new();
        for (name, origin) in moves {
            let Origin::Held { value, permutation } = origin else { continue };
            let place = values.get(name.as_str()).and_then(|_| follow(value, permutation, moves, values));
            let Some(Place { value, permutation }) = place else { continue };
            let is_interface = graph.inputs.contains(&value) || graph.outputs.contains(&value);
            let copy = graph.value(value);
            let is_own = is_interface || known.contains(copy.name.as_str()) || copy.constant.is_some();
            if !is_own && !permutation.is_empty() {
                layouts.push((copy.name.clone(), Origin::Held { value: copy.name.clone(), permutation }));
            }
        }
        layouts
    }

    /// The values that take the name of the first tensor that they hold: those whose own name is no tensor's.
    fn new_names(&self, graph: &Graph, places: &[Option<Place>]) -> HashMap<ValueId, String> {
        let interface: HashSet<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
        let taken: HashSet<&str> = graph.values().iter().map(|value| value.name.as_str()).collect();
        let known: HashSet<&str> = self.0.iter().map(|original| original.name.as_str()).collect();
        let mut new_names = HashMap::new();
        for (original, place) in self.0.iter().zip(places) {
            let Some(place) = place else { continue };
            let value = graph.value(place.value);
            let is_free = !taken.contains(original.name.as_str());
            let is_foreign = !known.contains(value.name.as_str()) && value.constant.is_none();
            if is_free && is_foreign && !interface.contains(&place.value) {
                new_names.entry(place.value).or_insert_with(|| original.name.clone());
            }
        }
        new_names
    }

    /// The nearest tensor behind number `index` that something holds.
    fn behind(&self, index: usize, places: &[Option<Place>]) -> Option<String> {
        let mut seen = HashSet::from([index]);
        let mut pending = VecDeque::from([index]);
        while let Some(next) = pending.pop_front() {
            if places[next].is_some() {
                return Some(self.0[next].name.clone());
            }
            pending.extend(self.0[next].readers.iter().filter(|&&reader| seen.insert(reader)));
        }
        None
    }
}

/// The value that the moves of a tensor end at, where it is there. The axes of the tensor are those `axes` of what has that name.
fn follow(name: &str, axes: &[usize], moves: &Origins, values: &HashMap<&str, ValueId>) -> Option<Place> {
    let (mut name, mut axes) = (name, axes.to_vec());
    // A tensor that moved to and fro is where it was.
    for _ in 0..=moves.len() {
        if let Some(&value) = values.get(name) {
            return Some(Place { value, permutation: axes });
        }
        let Some(Origin::Held { value, permutation }) = moves.get(name) else { return None };
        axes = match (axes.is_empty(), permutation.is_empty()) {
            (_, true) => axes,
            (true, false) => permutation.clone(),
            (false, false) => compose(permutation, &axes),
        };
        name = value;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::simplify_keeping;
    use super::super::testing::{Builder, Interpreter};
    use crate::ops::{Activation, Binary};
    use crate::{Graph, Operator, Origin};

    /// Names of a graph whose layers are fused, and which is to have its images channels last: product, activation,
    /// product, sum, activation, the same once more.
    fn network(keep: &[usize]) -> (Graph, [String; 6]) {
        let mut builder = Builder::new();
        let x = builder.input(&[1, 3, 5, 6]);
        let first = builder.conv(x, 8, 3);
        let positive = builder.activation(Activation::Relu, first);
        let second = builder.conv(positive, 8, 3);
        let sum = builder.binary(Binary::Add, second, positive);
        let end = builder.activation(Activation::Relu, sum);
        let same = builder.node(Operator::Identity, &[end]);
        let last = builder.conv(same, 4, 1);
        let names = [first, positive, second, sum, end, same].map(|id| builder.graph.value(id).name.clone());
        let mut graph = builder.finish(&[last]);
        let kept: Vec<String> = keep.iter().map(|&index| names[index].clone()).collect();
        simplify_keeping(&mut graph, &kept, &Interpreter).unwrap();
        (graph, names)
    }

    fn held<'a>(graph: &'a Graph, name: &str) -> Option<&'a str> {
        match graph.origins.get(name) {
            Some(Origin::Held { value, permutation }) if permutation == &[0, 3, 1, 2] => Some(value),
            _ => None,
        }
    }

    #[test]
    fn images_keep_their_names_in_another_layout() {
        let (graph, [first, positive, second, sum, end, same]) = network(&[]);
        assert_eq!(held(&graph, &positive), Some(positive.as_str()));
        assert_eq!(held(&graph, &end), Some(end.as_str()));
        assert_eq!(held(&graph, &same), Some(end.as_str()));
        assert!(graph.find_value(&positive).is_some() && graph.find_value(&end).is_some());
        for (name, into) in [(first, &positive), (second, &end), (sum, &end)] {
            assert_eq!(graph.origins.get(&name), Some(&Origin::Fused { into: into.clone() }), "{name}");
        }
    }

    #[test]
    fn kept_tensors_are_what_the_model_says() {
        let (graph, [first, _, second, sum, ..]) = network(&[0, 3]);
        for name in [&first, &sum] {
            assert!(graph.find_value(name).is_some() && !graph.origins.contains_key(name), "{name}");
        }
        assert_eq!(graph.outputs.len(), 1);
        assert_eq!(graph.origins.get(&second), Some(&Origin::Fused { into: sum }));
    }

    #[test]
    fn unknown_names_cannot_be_kept() {
        let mut builder = Builder::new();
        let x = builder.input(&[2]);
        let y = builder.activation(Activation::Relu, x);
        let error =
            simplify_keeping(&mut builder.finish(&[y]), &["nothing".into()], &Interpreter).unwrap_err();
        assert!(error.message().contains("nothing"));
    }
}
