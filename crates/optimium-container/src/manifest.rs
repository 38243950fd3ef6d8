//! `manifest.json`: what a folder is.

use std::collections::HashSet;
use std::path::Path;

use optimium_graph::{Graph, ValueId};
use optimium_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::check::MAX_TYPE_NESTING;
use crate::digest::Digest;
use crate::files;
use crate::hex;
use crate::packed;
use crate::records::TypeRecord;

/// The manifest's file name.
pub(crate) const NAME: &str = "manifest.json";
/// What every manifest's `format` says.
pub(crate) const FORMAT: &str = "optimium-model";
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: Version = Version { major: 1, minor: 3 };
/// The oldest version whose readers read what is written.
pub(crate) const MIN_READER: Version = Version { major: 1, minor: 0 };
/// Larger manifests are refused.
pub(crate) const MAX_SIZE: u64 = 1 << 20;

const MAX_FILES: usize = 1024;
/// The features that this reader understands.
const FEATURES: &[&str] = &[];

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Readers of another one refuse the folder.
    pub(crate) major: u32,
    /// Later ones add what earlier readers may skip.
    pub(crate) minor: u32,
}

/// The part that every version shares.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: Version,
    #[serde(default)]
    min_reader: Option<Version>,
    #[serde(default)]
    features: Vec<String>,
}

/// The whole file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`]
    pub(crate) format: String,
    /// The version that it is written in.
    pub(crate) version: Version,
    /// The oldest reader that may read it.
    #[serde(default)]
    pub(crate) min_reader: Option<Version>,
    /// Who wrote it.
    #[serde(default)]
    pub(crate) producer: String,
    /// The model's name.
    pub(crate) name: String,
    /// What the model takes.
    pub(crate) inputs: Vec<Signature>,
    /// What the model gives.
    pub(crate) outputs: Vec<Signature>,
    /// Every file of the folder but this one.
    pub(crate) files: Vec<FileEntry>,
    /// What a reader has to understand.
    #[serde(default)]
    pub(crate) features: Vec<String>,
    /// How the other files are encrypted, where they are.
    #[serde(default)]
    pub(crate) encryption: Option<serde_json::Value>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) value_type: TypeRecord,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub(crate) sha256: String,
    /// What it is: `graph`, `weights`, `packed`, `tuned`, or what a later version adds.
    pub(crate) role: String,
}

impl FileEntry {
    /// The digest that the file must have.
    pub(crate) fn digest(&self) -> Result<Digest> {
        hex::decode(&self.sha256)
            .and_then(|bytes| Digest::try_from(bytes).ok())
            .ok_or_else(|| Error::container(format!("expected 64 hexadecimal digits for {}", self.name)))
    }
}

impl Manifest {
    /// Reads the manifest of `folder`.
    ///
    /// # Errors
    /// `Container` where it is missing, damaged, or written by a version that this one cannot read.
    pub(crate) fn read(folder: &Path) -> Result<Manifest> {
        let text = files::read_file(folder, NAME, MAX_SIZE)?;
        Manifest::parse(&text).map_err(|error| error.context(NAME))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// As [`read`](Manifest::read).
    pub(crate) fn parse(text: &[u8]) -> Result<Manifest> {
        let damaged =
            |cause: serde_json::Error| Error::container(format!("is damaged: {cause}")).with_cause(cause);
        let head: Head = serde_json::from_slice(text).map_err(damaged)?;
        head.check()?;
        let manifest: Manifest = serde_json::from_slice(text).map_err(damaged)?;
        manifest.check_files()?;
        match manifest
            .inputs
            .iter()
            .chain(&manifest.outputs)
            .find(|one| one.value_type.nesting() > MAX_TYPE_NESTING)
        {
            Some(one) => Err(Error::container(format!("the type of {:?} is nested too deeply", one.name))),
            None => Ok(manifest),
        }
    }

    fn check_files(&self) -> Result<()> {
        if self.files.len() > MAX_FILES {
            return Err(Error::container(format!("lists more than {MAX_FILES} files")));
        }
        let mut seen = HashSet::new();
        for file in &self.files {
            if !files::is_file_name(&file.name) || file.name.eq_ignore_ascii_case(NAME) {
                return Err(Error::container(format!("{:?} is not an allowed file name", file.name)));
            }
            if !seen.insert(file.name.to_ascii_lowercase()) {
                return Err(Error::container(format!("lists {:?} twice", file.name)));
            }
            file.digest()?;
        }
        Ok(())
    }

    /// The one file of role `graph`.
    ///
    /// # Errors
    /// `Container` where there is none, or several.
    pub(crate) fn graph_file(&self) -> Result<&FileEntry> {
        let mut found = self.files.iter().filter(|file| file.role == "graph");
        match (found.next(), found.next()) {
            (Some(file), None) => Ok(file),
            _ => Err(Error::container(format!("{NAME}: expected one file of role \"graph\""))),
        }
    }

    /// The file of weights of that name.
    ///
    /// # Errors
    /// `Container` where there is none.
    pub(crate) fn weights_file(&self, name: &str) -> Result<&FileEntry> {
        self.files
            .iter()
            .find(|file| file.role == "weights" && file.name == name)
            .ok_or_else(|| Error::container(format!("{NAME}: expected the weights {name:?} among the files")))
    }

    /// The file of that name and of role `packed`, where there is one.
    pub(crate) fn packed_file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.role == packed::ROLE && file.name == name)
    }

    /// Whether the manifest speaks of `graph`.
    ///
    /// # Errors
    /// `Container` where it does not.
    pub(crate) fn check_signature(&self, graph: &Graph) -> Result<()> {
        if self.name != graph.name
            || self.inputs != signatures(graph, &graph.inputs)
            || self.outputs != signatures(graph, &graph.outputs)
        {
            return Err(Error::container(format!(
                "{NAME}: name, inputs or outputs are not those of the graph"
            )));
        }
        Ok(())
    }
}

impl Head {
    fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(Error::container(format!("expected the format {FORMAT:?}, not {:?}", self.format)));
        }
        let newer = |what: String| {
            Error::container(format!("was written by a newer version of the runtime, and needs {what}"))
        };
        let Version { major, minor } = self.version;
        if major > VERSION.major {
            return Err(newer(format!("a reader of version {major}.{minor}")));
        }
        if major == 0 {
            return Err(Error::container("expected a version from 1 on, not 0"));
        }
        if let Some(Version { major, minor }) = self.min_reader.filter(|version| *version > VERSION) {
            return Err(newer(format!("a reader of version {major}.{minor}")));
        }
        match self.features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
            Some(feature) => Err(newer(format!("the feature {feature:?}"))),
            None => Ok(()),
        }
    }
}

/// What a graph says of some of its values.
pub(crate) fn signatures(graph: &Graph, ids: &[ValueId]) -> Vec<Signature> {
    let signature = |id: &ValueId| {
        let value = graph.value(*id);
        Signature { name: value.name.clone(), value_type: TypeRecord::of(&value.value_type) }
    };
    ids.iter().map(signature).collect()
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    fn manifest(change: &str) -> String {
        let digest = "0".repeat(64);
        let whole = format!(
            r#"{{"format":"optimium-model","version":{{"major":1,"minor":0}},"name":"m","inputs":[],"outputs":[],
               "files":[{{"name":"graph.json","size":1,"sha256":"{digest}","role":"graph"}}]}}"#
        );
        match change.split_once("=>") {
            Some((from, to)) => whole.replace(from, to),
            None => whole,
        }
    }

    #[test]
    fn manifests_that_cannot_be_meant_are_refused() {
        let cases = [
            ("", ""),
            (r#""minor":0=>"minor":7,"patch":1"#, ""),
            (r#""name":"m"=>"name":"m","later":[1,{"x":null}]"#, ""),
            (r#""name":"m"=>"name":"m","encryption":null,"features":[]"#, ""),
            ("optimium-model=>other", "expected the format"),
            (r#""major":1=>"major":2"#, "newer version"),
            (r#""major":1=>"major":0"#, "expected a version"),
            (r#""major":1=>"major":-1"#, "damaged"),
            (r#""major":1=>"major":1e999"#, "damaged"),
            (r#""name":"m"=>"name":"m","min_reader":{"major":1,"minor":4}"#, "newer version"),
            (r#""name":"m"=>"name":"m","features":["lazy"]"#, "newer version"),
            (r#""name":"m"=>"name":"m","name":"n""#, "duplicate field"),
            (r#""name":"m"=>"name":"\ud800""#, "damaged"),
            (r#""size":1=>"size":1.5"#, "damaged"),
            (r#""sha256":"00=>"sha256":"0"#, "hexadecimal"),
            ("graph.json=>../graph.json", "not an allowed file name"),
            ("graph.json=>Manifest.JSON", "not an allowed file name"),
            (r#"]}=>]} x"#, "damaged"),
            (r#""files":[=>"files":[{"name":"GRAPH.json","size":1,"sha256":"","role":"x"},"#, "hexadecimal"),
        ];
        each_case(cases, |&(change, expected)| match Manifest::parse(manifest(change).as_bytes()) {
            Ok(_) if expected.is_empty() => Ok(()),
            Err(error) if !expected.is_empty() && error.message().contains(expected) => Ok(()),
            result => Err(format!("{result:?}")),
        });
        let deep = "[".repeat(1_000_000);
        assert!(Manifest::parse(deep.as_bytes()).is_err());
        let twice = manifest("").replace("\"files\":[", "\"files\":[FIRST,");
        let digest = "0".repeat(64);
        let first = format!(r#"{{"name":"Graph.json","size":1,"sha256":"{digest}","role":"x"}}"#);
        let error = Manifest::parse(twice.replace("FIRST", &first).as_bytes()).unwrap_err();
        assert!(error.message().contains("twice"), "{error}");
    }
}
