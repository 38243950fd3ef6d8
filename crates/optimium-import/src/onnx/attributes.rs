//! The attributes of one node, which remember what was read of them.

use std::collections::HashMap;

use optimium_tensor::{Error, Result};

use super::proto::{
    AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto, attribute_type as types,
};

/// What a function's caller gave for the function's attributes, by name.
pub(super) type FunctionAttributes<'m> = HashMap<&'m str, &'m AttributeProto>;

/// The attributes of one node.
///
/// An attribute that nobody reads would silently change what the model means, so that readers take every one
/// that they know, and [`unread`](Attributes::unread) tells the others.
pub(super) struct Attributes<'m> {
    entries: Vec<Entry<'m>>,
}

struct Entry<'m> {
    name: &'m str,
    attribute: &'m AttributeProto,
    read: bool,
}

impl<'m> Attributes<'m> {
    /// The attributes of `node`, those that refer to the function around it replaced by what its caller gave.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where two have the same name.
    pub(super) fn new(node: &'m NodeProto, function: &FunctionAttributes<'m>) -> Result<Attributes<'m>> {
        let mut entries: Vec<Entry<'m>> = Vec::with_capacity(node.attribute.len());
        for attribute in &node.attribute {
            let name = attribute.name.as_str();
            if entries.iter().any(|entry| entry.name == name) {
                return Err(Error::model(format!("the attribute {name:?} is given twice")));
            }
            let attribute = match attribute.ref_attr_name.as_str() {
                "" => Some(attribute),
                reference => function.get(reference).copied(),
            };
            if let Some(attribute) = attribute {
                entries.push(Entry { name, attribute, read: false });
            }
        }
        Ok(Attributes { entries })
    }

    /// Names of attributes that nobody read.
    pub(super) fn unread(&self) -> impl Iterator<Item = &'m str> {
        self.entries.iter().filter(|entry| !entry.read).map(|entry| entry.name)
    }

    /// Reads attributes that mean nothing for inference.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for entry in self.entries.iter_mut().filter(|entry| names.contains(&entry.name)) {
            entry.read = true;
        }
    }

    /// All attributes, read.
    pub(super) fn all(&mut self) -> impl Iterator<Item = (&'m str, &'m AttributeProto)> {
        self.entries.iter_mut().map(|entry| {
            entry.read = true;
            (entry.name, entry.attribute)
        })
    }

    fn take(&mut self, name: &str, expected: i32, kind: &str) -> Result<Option<&'m AttributeProto>> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        entry.read = true;
        // The oldest models leave the type out.
        if entry.attribute.r#type != expected && entry.attribute.r#type != 0 {
            return Err(Error::model(format!("the attribute {name:?} is not {kind}")));
        }
        Ok(Some(entry.attribute))
    }

    /// An integer.
    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>> {
        Ok(self.take(name, types::INT, "an integer")?.map(|attribute| attribute.i))
    }

    /// An integer, or its default.
    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that says yes (anything but 0) or no.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// An integer that counts something, or its default.
    pub(super) fn count_or(&mut self, name: &str, default: usize) -> Result<usize> {
        match self.int(name)? {
            None => Ok(default),
            Some(value) => count(name, value),
        }
    }

    /// A number.
    pub(super) fn float(&mut self, name: &str) -> Result<Option<f32>> {
        Ok(self.take(name, types::FLOAT, "a number")?.map(|attribute| attribute.f))
    }

    /// A number, or its default.
    pub(super) fn float_or(&mut self, name: &str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A list of integers.
    pub(super) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.take(name, types::INTS, "a list of integers")?.map(|attribute| attribute.ints.clone()))
    }

    /// An integer that counts something.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<usize>> {
        self.int(name)?.map(|value| count(name, value)).transpose()
    }

    /// A count that has to be there, and not to be zero.
    pub(super) fn required_positive(&mut self, name: &str) -> Result<usize> {
        match self.count(name)?.ok_or_else(|| missing(name))? {
            0 => Err(Error::model(format!("the attribute {name:?} is zero, but has to be positive"))),
            value => Ok(value),
        }
    }

    /// A list of counts.
    pub(super) fn counts(&mut self, name: &str) -> Result<Option<Vec<usize>>> {
        match self.ints(name)? {
            None => Ok(None),
            Some(values) => {
                values.into_iter().map(|value| count(name, value)).collect::<Result<_>>().map(Some)
            }
        }
    }

    /// A list of numbers.
    pub(super) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        Ok(self.take(name, types::FLOATS, "a list of numbers")?.map(|attribute| attribute.floats.clone()))
    }

    /// A text.
    pub(super) fn string(&mut self, name: &str) -> Result<Option<&'m str>> {
        match self.take(name, types::STRING, "a text")? {
            None => Ok(None),
            Some(attribute) => text(name, &attribute.s).map(Some),
        }
    }

    /// A text, or its default.
    pub(super) fn string_or(&mut self, name: &str, default: &'static str) -> Result<&'m str>
    where
        'static: 'm,
    {
        Ok(self.string(name)?.unwrap_or(default))
    }

    /// A list of texts.
    pub(super) fn strings(&mut self, name: &str) -> Result<Option<Vec<&'m str>>> {
        match self.take(name, types::STRINGS, "a list of texts")? {
            None => Ok(None),
            Some(attribute) => {
                attribute.strings.iter().map(|s| text(name, s)).collect::<Result<_>>().map(Some)
            }
        }
    }

    /// A tensor.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<&'m TensorProto>> {
        Ok(self.take(name, types::TENSOR, "a tensor")?.and_then(|attribute| attribute.t.as_ref()))
    }

    /// A sparse tensor.
    pub(super) fn sparse_tensor(&mut self, name: &str) -> Result<Option<&'m SparseTensorProto>> {
        let attribute = self.take(name, types::SPARSE_TENSOR, "a sparse tensor")?;
        Ok(attribute.and_then(|attribute| attribute.sparse_tensor.as_ref()))
    }

    /// A graph, which has to be there.
    pub(super) fn graph(&mut self, name: &str) -> Result<&'m GraphProto> {
        let attribute = self.take(name, types::GRAPH, "a graph")?;
        attribute.and_then(|attribute| attribute.g.as_ref()).ok_or_else(|| missing(name))
    }

    /// A graph.
    pub(super) fn optional_graph(&mut self, name: &str) -> Result<Option<&'m GraphProto>> {
        Ok(self.take(name, types::GRAPH, "a graph")?.and_then(|attribute| attribute.g.as_ref()))
    }

    /// An integer that has to be there.
    pub(super) fn required_int(&mut self, name: &str) -> Result<i64> {
        self.int(name)?.ok_or_else(|| missing(name))
    }
}

/// The error for an attribute that has to be there.
pub(super) fn missing(name: &str) -> Error {
    Error::model(format!("the attribute {name:?} is missing"))
}

fn count(name: &str, value: i64) -> Result<usize> {
    // Larger values are damage, and would overflow the arithmetic of shapes.
    usize::try_from(value)
        .ok()
        .filter(|&value| value <= 1 << 40)
        .ok_or_else(|| Error::model(format!("the attribute {name:?} is {value}")))
}

fn text<'m>(name: &str, bytes: &'m [u8]) -> Result<&'m str> {
    std::str::from_utf8(bytes).map_err(|_| Error::model(format!("the attribute {name:?} is not UTF-8")))
}
