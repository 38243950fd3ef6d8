//! Damaged and hostile folders: an error, or the same model, and nothing else.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Temporary, copy, golden, overwrite, read_json, reseal, same};
use optimium_container::{inspect, is_model_folder, open, save, verify};
use optimium_graph::Graph;
use optimium_tensor::ErrorKind;
use optimium_testing::{Random, each_case};
use serde_json::{Value, json};

const FILES: [&str; 3] = ["manifest.json", "graph.json", "weights.bin"];

fn saved() -> (Temporary, PathBuf) {
    let temporary = Temporary::new();
    let folder = temporary.join("model");
    save(&golden(), &folder).unwrap();
    (temporary, folder)
}

/// Says that a tensor of the model is in `value`.
fn origins(graph: &mut Value, value: &str, permutation: &[usize]) {
    graph["graphs"][0]["origins"] = json!({"t": {"held": {"value": value, "permutation": permutation}}});
}

/// An error of kind `Container` whose message holds `expected`.
fn refused(folder: &Path, expected: &str) -> Result<(), String> {
    match open(folder, None) {
        Ok(_) => Err("it was opened".into()),
        Err(error) if error.kind() != ErrorKind::Container => Err(format!("{error:?}")),
        Err(error) if !error.message().contains(expected) => Err(format!("{error:?}")),
        Err(_) => Ok(()),
    }
}

fn refused_or_same(folder: &Path, expected: &Graph) -> Result<(), String> {
    match open(folder, None) {
        Ok(graph) => same(&graph, expected),
        Err(error) if error.kind() == ErrorKind::Container => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    }
}

#[test]
fn truncated_files_are_refused() {
    let (_temporary, folder) = saved();
    for name in FILES {
        let whole = fs::read(folder.join(name)).unwrap();
        each_case((0..whole.len()).step_by(7).chain(whole.len() - 1..whole.len()), |&length| {
            overwrite(&folder.join(name), &whole[..length]);
            let damaged = refused(&folder, "");
            // The last byte of the manifest is a line feed.
            if name == FILES[0] && length == whole.len() - 1 { Ok(()) } else { damaged }
        });
        let longer = [&whole[..], b"x"].concat();
        overwrite(&folder.join(name), longer);
        refused(&folder, name).unwrap();
        overwrite(&folder.join(name), whole);
    }
    open(&folder, None).unwrap();
}

#[test]
fn changed_bits_of_text_are_refused_or_harmless() {
    let (_temporary, folder) = saved();
    let expected = golden();
    // Any change of the graph's text fails its checksum: one bit of each byte shows it.
    for (name, bits) in [("manifest.json", 8), ("graph.json", 1)] {
        let whole = fs::read(folder.join(name)).unwrap();
        each_case(0..whole.len(), |&byte| {
            for bit in (0..bits).map(|bit| (bit + byte) % 8) {
                let mut changed = whole.clone();
                changed[byte] ^= 1 << bit;
                overwrite(&folder.join(name), &changed);
                refused_or_same(&folder, &expected)?;
            }
            Ok(())
        });
        overwrite(&folder.join(name), whole);
    }
}

#[test]
fn every_changed_byte_of_weights_is_found_by_verify() {
    let (_temporary, folder) = saved();
    let path = folder.join("weights.bin");
    let whole = fs::read(&path).unwrap();
    verify(&folder).unwrap();
    each_case(0..whole.len(), |&byte| {
        let mut changed = whole.clone();
        changed[byte] ^= 16;
        overwrite(&path, &changed);
        match (verify(&folder), byte < 64) {
            (Ok(()), _) => Err("verify saw nothing".into()),
            (Err(_), true) => refused(&folder, "weights.bin"),
            (Err(_), false) => open(&folder, None).map(|_| ()).map_err(|error| error.to_string()),
        }
    });
}

#[test]
fn a_forged_graph_never_panics() {
    let (_temporary, folder) = saved();
    let path = folder.join("graph.json");
    let whole = fs::read(&path).unwrap();
    let mut random = Random::new(5);
    let letters = b"0123456789-.eE\"[]{}:,nx";
    for byte in 0..whole.len() {
        let mut changed = whole.clone();
        changed[byte] = letters[random.range(0, letters.len() as i64) as usize];
        overwrite(&path, &changed);
        reseal(&folder);
        if let Err(error) = open(&folder, None) {
            assert_eq!(error.kind(), ErrorKind::Container, "{error:?}");
        }
    }
}

/// What is changed, what the error says of it, and the change.
type Forgery = (&'static str, &'static str, Box<dyn Fn(&mut Value)>);

/// Every change of `graph.json`, checksums made to agree, is refused.
fn each_forgery(cases: Vec<Forgery>) {
    let (_temporary, folder) = saved();
    let path = folder.join("graph.json");
    let whole = read_json(&path);
    let names: Vec<_> = cases.iter().map(|(name, expected, _)| (*name, *expected)).collect();
    each_case(names.into_iter().enumerate(), |&(index, (_, expected))| {
        let mut changed = whole.clone();
        cases[index].2(&mut changed);
        overwrite(&path, changed.to_string());
        reseal(&folder);
        refused(&folder, expected)
    });
}

/// The size of the golden model's weights.
fn golden_weights() -> u64 {
    let (_temporary, folder) = saved();
    fs::metadata(folder.join("weights.bin")).unwrap().len()
}

#[test]
fn forged_places_of_constants_are_refused() {
    let stored = |graph: &mut Value, field: &str, value: Value| {
        graph["graphs"][0]["values"][2]["constant"]["data"]["stored"][field] = value;
    };
    let size = golden_weights();
    each_forgery(vec![
        ("offset in the header", "multiple", Box::new(move |g| stored(g, "offset", json!(0)))),
        ("offset unaligned", "multiple", Box::new(move |g| stored(g, "offset", json!(65)))),
        ("offset at the end", "within a file", Box::new(move |g| stored(g, "offset", json!(size)))),
        ("offset overflows", "within a file", Box::new(move |g| stored(g, "offset", json!(u64::MAX - 63)))),
        ("offset negative", "damaged", Box::new(move |g| stored(g, "offset", json!(-64)))),
        ("bytes", "holds 432 bytes", Box::new(move |g| stored(g, "bytes", json!(64)))),
        ("file", "file of weights below 1", Box::new(move |g| stored(g, "file", json!(1)))),
        ("other weights", "does not belong", Box::new(|g| g["weights"][0]["content"] = json!("00"))),
        (
            "weights elsewhere",
            "among the files",
            Box::new(|g| g["weights"][0]["file"] = json!("../weights.bin")),
        ),
        ("graph as weights", "among the files", Box::new(|g| g["weights"][0]["file"] = json!("graph.json"))),
        (
            "many weights",
            "more than",
            Box::new(|g| {
                g["weights"] = vec![g["weights"][0].clone(); 2000].into();
            }),
        ),
        (
            "dims overflow",
            "no memory",
            Box::new(|g| {
                g["graphs"][0]["values"][2]["constant"]["dims"] = json!([1u64 << 32, 1u64 << 32]);
            }),
        ),
        (
            "dims and bytes",
            "bytes",
            Box::new(|g| g["graphs"][0]["values"][3]["constant"]["dims"] = json!([5])),
        ),
    ]);
}

#[test]
fn forged_contents_are_refused() {
    each_forgery(vec![
        (
            "digits",
            "hexadecimal",
            Box::new(|g| {
                g["graphs"][0]["values"][3]["constant"]["data"] = json!({"inline": "zz"});
            }),
        ),
        (
            "strings as numbers",
            "cannot be",
            Box::new(|g| {
                g["graphs"][0]["values"][3]["constant"]["data"] = json!({"strings": ["a", "b", "c", "d"]});
            }),
        ),
        (
            "numbers as strings",
            "",
            Box::new(|g| g["graphs"][0]["values"][3]["constant"]["type"] = json!("string")),
        ),
        (
            "later data",
            "damaged",
            Box::new(|g| {
                g["graphs"][0]["values"][3]["constant"]["data"] = json!({"compressed": ""});
            }),
        ),
    ]);
}

#[test]
fn forged_schemes_and_nodes_are_refused() {
    each_forgery(vec![
        (
            "scheme out of range",
            "expected a scheme",
            Box::new(|g| {
                g["graphs"][0]["values"][8]["scheme"] = json!(1);
            }),
        ),
        ("scheme without parameters", "no scheme", Box::new(|g| g["schemes"][0] = json!({"scales": []}))),
        ("tensor that is nowhere", "is not in", Box::new(|g| origins(g, "nothing", &[]))),
        ("too few axes", "is not in", Box::new(|g| origins(g, "image", &[0, 1]))),
        ("axes that are no permutation", "is not in", Box::new(|g| origins(g, "image", &[0, 1, 2, 2]))),
        ("scheme of other channels", "channels", Box::new(|g| g["schemes"][0]["axis"] = json!(0))),
        ("axis beyond the rank", "rank", Box::new(|g| g["schemes"][0]["axis"] = json!(1u64 << 40))),
        (
            "unknown operator",
            "the unknown operator \"warp\"",
            Box::new(|g| {
                g["graphs"][0]["nodes"][1]["operator"] = json!({"op": "warp"});
            }),
        ),
        (
            "unknown operator, node",
            "the node \"reshape\"",
            Box::new(|g| {
                g["graphs"][0]["nodes"][1]["operator"] = json!({"op": "warp"});
            }),
        ),
        (
            "unknown attribute value",
            "operator \"conv\"",
            Box::new(|g| {
                g["graphs"][0]["nodes"][0]["operator"]["layout"] = json!("diagonal");
            }),
        ),
        (
            "missing attribute",
            "operator \"conv\"",
            Box::new(|g| {
                g["graphs"][0]["nodes"][0]["operator"].as_object_mut().unwrap().remove("groups");
            }),
        ),
        (
            "operand out of range",
            "expected a value below",
            Box::new(|g| {
                g["graphs"][0]["nodes"][0]["inputs"][0] = json!(u32::MAX);
            }),
        ),
        (
            "cycle",
            "nothing before it computes",
            Box::new(|g| {
                g["graphs"][0]["nodes"][0]["inputs"][0] = g["graphs"][0]["nodes"][0]["outputs"][0].clone();
            }),
        ),
        (
            "two producers",
            "gives already",
            Box::new(|g| {
                g["graphs"][0]["nodes"][1]["outputs"][0] = g["graphs"][0]["nodes"][0]["outputs"][0].clone();
            }),
        ),
    ]);
}

#[test]
fn forged_bodies_are_refused() {
    let bodies = |graph: &mut Value, value: Value| graph["graphs"][0]["nodes"][3]["bodies"] = value;
    each_forgery(vec![
        ("no bodies", "bodies", Box::new(move |g| bodies(g, json!([])))),
        ("a body twice", "body of two", Box::new(move |g| bodies(g, json!([1, 1])))),
        ("a graph in itself", "expected a body between", Box::new(move |g| bodies(g, json!([0, 1])))),
        ("body out of range", "expected a body between", Box::new(move |g| bodies(g, json!([1, 99])))),
        (
            "bodies of a convolution",
            "bodies",
            Box::new(|g| g["graphs"][0]["nodes"][0]["bodies"] = json!([1])),
        ),
        (
            "a graph that nobody uses",
            "body of no operator",
            Box::new(|g| {
                let graph = g["graphs"][1].clone();
                g["graphs"].as_array_mut().unwrap().push(graph);
            }),
        ),
        ("no graph", "at least one graph", Box::new(|g| g["graphs"] = json!([]))),
        ("other name", "name, inputs or outputs", Box::new(|g| g["graphs"][0]["name"] = json!("other"))),
        (
            "deep type",
            "nested",
            Box::new(|g| {
                g["graphs"][0]["values"][5]["type"]["containers"] = vec!["sequence"; 100_000].into();
            }),
        ),
        ("not an object", "damaged", Box::new(|g| *g = json!([1, 2]))),
    ]);
}

#[test]
fn text_that_no_parser_likes_is_refused() {
    let (_temporary, folder) = saved();
    for text in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000), "\"\\ud800\"".into(), "1e999".into()] {
        overwrite(&folder.join("graph.json"), text);
        reseal(&folder);
        refused(&folder, "graph.json").unwrap();
    }
}

#[test]
fn deeply_nested_bodies_are_refused() {
    let (_temporary, folder) = saved();
    let path = folder.join("graph.json");
    let mut whole = read_json(&path);
    let graphs = 100_000;
    let body = whole["graphs"][1].clone();
    let chain: Vec<Value> = (0..graphs)
        .map(|index| {
            let mut graph = body.clone();
            if index + 1 < graphs {
                let operator = json!({"op": "loop", "carried": 1, "body": {}});
                let node = json!({"name": "l", "operator": operator, "inputs": [0], "outputs": [], "bodies": [index + 1]});
                graph["nodes"] = json!([node]);
                graph["outputs"] = json!([]);
            }
            graph
        })
        .collect();
    whole["graphs"] = chain.into();
    overwrite(&path, whole.to_string());
    reseal(&folder);
    refused(&folder, "nested").unwrap();
}

#[test]
fn fields_of_later_versions_are_skipped() {
    let (_temporary, folder) = saved();
    for (name, places) in [
        ("manifest.json", &["", "/version", "/files/0", "/inputs/0"][..]),
        (
            "graph.json",
            &[
                "",
                "/weights/0",
                "/schemes/0",
                "/graphs/0",
                "/graphs/0/values/2/constant",
                "/graphs/0/nodes/0",
            ][..],
        ),
    ] {
        let mut json = read_json(&folder.join(name));
        for place in places {
            json.pointer_mut(place).unwrap()["later"] = json!({"x": [1, null]});
        }
        overwrite(&folder.join(name), json.to_string());
        reseal(&folder);
    }
    same(&open(&folder, None).unwrap(), &golden()).unwrap();
}

#[test]
fn forged_manifests_are_refused() {
    let (_temporary, folder) = saved();
    let path = folder.join("manifest.json");
    let whole = read_json(&path);
    fs::write(folder.parent().unwrap().join("outside"), b"x").unwrap();
    let file = |name: &str| json!({"name": name, "size": 1, "sha256": "0".repeat(64), "role": "extra"});
    let add = |name: &'static str| -> Box<dyn Fn(&mut Value)> {
        Box::new(move |m| m["files"].as_array_mut().unwrap().push(file(name)))
    };
    let long: &'static str = "a".repeat(300).leak();
    let cases: Vec<(&str, &str, Box<dyn Fn(&mut Value)>)> = vec![
        ("parent", "not an allowed", add("../outside")),
        ("round about", "not an allowed", add("a/../../outside")),
        ("absolute", "not an allowed", add("/etc/hostname")),
        ("NUL", "not an allowed", add("a\0b")),
        ("long", "not an allowed", add(long)),
        ("missing", "extra is missing", add("extra")),
        ("twice", "twice", add("GRAPH.JSON")),
        ("size of weights", "bytes", Box::new(|m| m["files"][1]["size"] = json!(u64::MAX))),
        ("size of the graph", "bytes", Box::new(|m| m["files"][0]["size"] = json!(0))),
        ("digest of the graph", "SHA-256", Box::new(|m| m["files"][0]["sha256"] = json!("0".repeat(64)))),
        ("no graph", "role \"graph\"", Box::new(|m| m["files"][0]["role"] = json!("weights"))),
        ("no weights", "among the files", Box::new(|m| m["files"][1]["role"] = json!("other"))),
        ("other inputs", "inputs", Box::new(|m| m["inputs"] = json!([]))),
        ("later major version", "newer version", Box::new(|m| m["version"]["major"] = json!(2))),
        ("later reader", "newer version", Box::new(|m| m["min_reader"]["minor"] = json!(9))),
        ("unknown feature", "newer version", Box::new(|m| m["features"] = json!(["lazy"]))),
        ("encrypted", "passphrase is needed", Box::new(|m| m["encryption"] = json!({"suite": 1}))),
        ("many files", "more than", Box::new(|m| m["files"] = vec![m["files"][0].clone(); 1025].into())),
        (
            "deep type",
            "nested",
            Box::new(|m| {
                m["inputs"][0]["type"]["containers"] = vec!["optional"; 50_000].into();
            }),
        ),
        ("large", "larger than", Box::new(|m| m["later"] = json!("x".repeat(1 << 20)))),
    ];
    each_case(
        cases.iter().map(|(name, expected, _)| (*name, *expected)).enumerate(),
        |&(index, (_, expected))| {
            let mut changed = whole.clone();
            cases[index].2(&mut changed);
            overwrite(&path, changed.to_string());
            refused(&folder, expected)
        },
    );
    let mut encrypted = whole;
    encrypted["encryption"] = json!({});
    overwrite(&path, encrypted.to_string());
    assert_eq!(open(&folder, Some("secret")).unwrap_err().kind(), ErrorKind::NotImplemented);
    assert!(inspect(&folder).unwrap().encrypted);
    assert!(verify(&folder).unwrap_err().message().contains("passphrase"));
}

#[test]
fn what_is_missing_or_in_the_way_is_named() {
    let (temporary, folder) = saved();
    refused(&temporary.join("nowhere"), "does not exist").unwrap();
    fs::write(temporary.join("file"), b"x").unwrap();
    refused(&temporary.join("file"), "is not a folder").unwrap();
    fs::create_dir(temporary.join("empty")).unwrap();
    refused(&temporary.join("empty"), "not a model folder").unwrap();
    fs::write(folder.join("notes.txt"), b"not of the model").unwrap();
    open(&folder, None).unwrap();
    for name in FILES {
        let other = temporary.join(&format!("without-{name}"));
        copy(&folder, &other);
        fs::remove_file(other.join(name)).unwrap();
        refused(&other, name).unwrap();
        fs::create_dir(other.join(name)).unwrap();
        refused(&other, "regular file").unwrap();
    }
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let (temporary, folder) = saved();
    for name in FILES {
        let other = temporary.join(&format!("linked-{name}"));
        copy(&folder, &other);
        fs::remove_file(other.join(name)).unwrap();
        std::os::unix::fs::symlink(folder.join(name), other.join(name)).unwrap();
        refused(&other, "regular file").unwrap();
    }
    std::os::unix::fs::symlink(&folder, temporary.join("link")).unwrap();
    open(&temporary.join("link"), None).unwrap();
    save(&Graph::new("other"), &temporary.join("link")).unwrap();
    assert_eq!(open(&folder, None).unwrap().name, "other");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_opens() {
    use std::os::unix::fs::PermissionsExt;
    let (_temporary, folder) = saved();
    let allow = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    for name in FILES {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    allow(0o555);
    let result = verify(&folder);
    allow(0o755);
    result.unwrap();
}

#[test]
fn only_model_folders_are_replaced() {
    let (temporary, folder) = saved();
    fs::create_dir(temporary.join("empty")).unwrap();
    save(&golden(), &temporary.join("empty")).unwrap();
    fs::create_dir(temporary.join("work")).unwrap();
    fs::write(temporary.join("work").join("thesis.txt"), b"x").unwrap();
    fs::write(temporary.join("file"), b"x").unwrap();
    copy(&folder, &temporary.join("mixed"));
    fs::write(temporary.join("mixed").join("labels.txt"), b"x").unwrap();
    let before = temporary.names();
    let nowhere = format!("no{}where", std::path::MAIN_SEPARATOR);
    let cases = [
        ("work", "not a model folder"),
        ("file", "is a file"),
        ("mixed", "labels.txt"),
        (nowhere.as_str(), "does not exist"),
    ];
    each_case(cases, |&(name, expected)| match save(&golden(), &temporary.join(name)) {
        Err(error) if error.kind() == ErrorKind::Container && error.message().contains(expected) => Ok(()),
        result => Err(format!("{result:?}")),
    });
    assert_eq!(temporary.names(), before);
    assert!(temporary.join("work").join("thesis.txt").exists() && !is_model_folder(&temporary.join("work")));
}
