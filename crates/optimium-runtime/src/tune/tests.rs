//! A small network in a folder, tuned and loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use optimium_container::{Tuned, TunedMachine};
use optimium_device::{Choices, CompileOptions, KernelChoice, Precision, cpu_model};
use optimium_graph::ops::{Fusion, MatMul};
use optimium_graph::{Graph, Node, Operator};
use optimium_tensor::{ElementType, ErrorKind, Expr, Tensor};
use optimium_testing::{Random, Tolerance, compare, each_case};

use super::*;
use crate::model::Model;
use crate::request::Tensors;
use crate::{initialize, load_model};

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    /// The model folder of [`network`], with packed weights or without.
    fn new(name: &str, pack: bool) -> Folder {
        initialize().expect("the runtime starts");
        let folder = std::env::temp_dir().join(format!("optimium-tune-{name}-{}", std::process::id()));
        let graph = Arc::new(network());
        let executable = Native::new().compile(&graph, &CompileOptions::default()).expect("it compiles");
        let blocks = executable.packed().into_iter().map(|block| (block.key, block.bytes)).collect();
        let packed = optimium_container::PackedBlocks { target: target(), blocks };
        let packed = if pack { std::slice::from_ref(&packed) } else { &[] };
        optimium_container::save_packed(&graph, &folder, packed).expect("it is saved");
        Folder(folder)
    }

    fn stored(&self) -> Tuned {
        optimium_container::open_packed(&self.0, None, None).expect("it opens").tuned
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn target() -> String {
    Native::new().packing_target(&CompileOptions::default()).expect("a target")
}

/// `y = x · a · b` with a dynamic number of rows.
fn network() -> Graph {
    let mut graph = Graph::new("network");
    let mut random = Random::new(1);
    let x = graph.add_tensor(
        "x",
        ElementType::F32,
        Some([Expr::symbol("n"), Expr::from(40usize)].into_iter().collect()),
    );
    graph.inputs.push(x);
    let mut last = x;
    for (name, dims) in [("a", [40, 100]), ("b", [100, 20])] {
        let weights = Tensor::from_slice(&dims, &random.floats(dims[0] * dims[1])).expect("values fit");
        let weights = graph.add_constant(name, weights);
        let y = graph.add_unknown(format!("y{name}"));
        let op = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
        graph.add_node(Node {
            name: format!("node {name}"),
            op: Operator::MatMul(op),
            inputs: vec![Some(last), Some(weights)],
            outputs: vec![Some(y)],
        });
        last = y;
    }
    graph.outputs.push(last);
    shapes::infer(&mut graph).expect("the shapes are known");
    graph
}

fn load(folder: &Folder, options: &LoadOptions) -> Model {
    load_model(&folder.0, options).expect("it loads")
}

fn options(threads: usize) -> LoadOptions {
    LoadOptions { threads: Some(threads), ..LoadOptions::default() }
}

fn results(model: &Model) -> Vec<f32> {
    let x = Tensor::from_slice(&[3, 40], &Random::new(2).floats(120)).expect("values fit");
    let y = Tensor::zeros(ElementType::F32, &[3, 20]).expect("there is memory");
    let request = model.create_request().expect("the runtime runs");
    request.infer(Tensors::Ordered(vec![x]), Tensors::Ordered(vec![y.clone()])).expect("it begins");
    request.wait(None, &mut || false).expect("it ends");
    y.to_f32s().expect("floats")
}

fn short(threads: usize) -> TuneOptions {
    TuneOptions { load: options(threads), time: Duration::from_millis(50), ..TuneOptions::default() }
}

/// What the layers could be computed by.
fn problems(model: &Model) -> Vec<KernelChoice> {
    model.0.scheduler.executables()[0].choices().into_iter().flatten().collect()
}

/// The last candidate of every problem, for such a machine.
fn last_candidates(model: &Model, machine: TunedMachine) -> TunedMachine {
    let last = |one: KernelChoice| {
        (one.key, one.candidates.last().map(|last| last.name.clone()).unwrap_or_default())
    };
    TunedMachine { choices: problems(model).into_iter().map(last).collect(), ..machine }
}

fn this_machine(threads: usize) -> TunedMachine {
    TunedMachine {
        cpu: cpu_model().into(),
        target: target(),
        threads,
        precision: "f32".into(),
        choices: BTreeMap::new(),
    }
}

#[test]
fn a_tuned_folder_computes_the_same() {
    for pack in [true, false] {
        let folder = Folder::new(&format!("same-{pack}"), pack);
        let expected = results(&load(&folder, &options(1)));
        for threads in [1, 2, 1] {
            let mut done = Vec::new();
            let mut progress = |_: &str, part: f32| {
                done.push(part);
                Ok(())
            };
            let report = tune_model(&folder.0, &short(threads), &mut progress).expect("it is tuned");
            assert_eq!(report.choices, 2);
            assert!(report.after <= report.before && report.after > 0.0, "{report:?}");
            assert!(done.is_sorted() && done.last() == Some(&1.0), "{done:?}");
            let model = load(&folder, &options(threads));
            compare(&results(&model), &expected, Tolerance::dot(100)).expect("the same results");
            let changed = problems(&model).iter().filter(|one| one.taken != 0).count();
            assert_eq!(changed, report.layers.len());
            assert_eq!(folder.stored().find(&this_machine(threads)).is_some(), changed > 0);
            assert!(model.0.scheduler.executables()[0].packed().iter().all(|block| block.kept == pack));
        }
    }
}

#[test]
fn stored_choices_are_taken_on_such_a_machine() {
    let folder = Folder::new("taken", true);
    let model = load(&folder, &options(1));
    let expected = results(&model);
    let ours = last_candidates(&model, this_machine(1));
    let cases: [(&str, TunedMachine, LoadOptions, bool); 7] = [
        ("the same", ours.clone(), options(1), true),
        ("not wanted", ours.clone(), LoadOptions { tuned: false, ..options(1) }, false),
        ("other threads", ours.clone(), options(2), false),
        ("other precision", ours.clone(), LoadOptions { precision: Precision::Bf16, ..options(1) }, false),
        ("other CPU", TunedMachine { cpu: "another".into(), ..ours.clone() }, options(1), false),
        ("other target", TunedMachine { target: "another".into(), ..ours.clone() }, options(1), false),
        (
            "unknown candidates",
            TunedMachine {
                choices: ours.choices.keys().map(|key| (key.clone(), "unknown".into())).collect(),
                ..ours.clone()
            },
            options(1),
            false,
        ),
    ];
    each_case(cases, |(_, machine, options, taken)| {
        let mut tuned = Tuned::default();
        tuned.set(machine.clone());
        optimium_container::save_tuned(&folder.0, &tuned, &[]).map_err(|error| error.to_string())?;
        optimium_container::verify(&folder.0).map_err(|error| error.to_string())?;
        let model = load(&folder, options);
        let tolerance = match options.precision {
            Precision::F32 => Tolerance::dot(100),
            Precision::Bf16 => Tolerance::Scaled { epsilon: 0.02, scale: 10.0 },
        };
        compare(&results(&model), &expected, tolerance)?;
        let problems = problems(&model);
        let as_stored = problems.iter().all(|one| one.taken + 1 == one.candidates.len());
        let as_estimated = problems.iter().all(|one| one.taken == 0);
        let right = if *taken { as_stored } else { as_estimated };
        if right { Ok(()) } else { Err(format!("{problems:?}")) }
    });
}

#[test]
fn the_blocks_of_all_uses_are_stored() {
    let folder = Folder::new("blocks", true);
    let mut graph = optimium_container::open(&folder.0, None).expect("it opens");
    shapes::infer(&mut graph).expect("the shapes are known");
    let graph = Arc::new(graph);
    for threads in [1, 2] {
        let choices: Choices = last_candidates(&load(&folder, &options(threads)), this_machine(threads))
            .choices
            .into_iter()
            .collect();
        let opened = optimium_container::open_packed(&folder.0, None, Some(&target())).expect("it opens");
        let stored = opened.packed.map(|stored| PackedWeights::new(stored.buffer, stored.places));
        let compile_options = CompileOptions { threads, packed: stored, ..CompileOptions::default() };
        let values = inputs::Values::new(&graph, &HashMap::new()).expect("there are inputs");
        let bench = trial::Bench { native: Native::new(), graph: &graph, options: &compile_options, values };
        let store =
            stored::Store { path: &folder.0, target: &target(), tuned: &opened.tuned, with_weights: true };
        store.save(&bench, &choices).expect("it is stored");
    }
    optimium_container::verify(&folder.0).expect("the folder is sound");
    for threads in [1, 2] {
        for tuned in [true, false] {
            let model = load(&folder, &LoadOptions { tuned, ..options(threads) });
            assert!(problems(&model).iter().all(|one| (one.taken > 0) == tuned), "{threads}");
            assert!(
                model.0.scheduler.executables()[0].packed().iter().all(|block| block.kept),
                "{threads} {tuned}"
            );
        }
    }
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let folder = Folder::new("refused", true);
    let manifest = || std::fs::read(folder.0.join("manifest.json")).expect("there is a manifest");
    let before = manifest();
    let refused = |path: &Path, options: &TuneOptions| {
        tune_model(path, options, &mut |_, _| Ok(())).expect_err("it is refused").kind()
    };
    let file = folder.0.join("manifest.json");
    assert_eq!(refused(&file, &short(1)), ErrorKind::InvalidArgument);
    assert_eq!(refused(&folder.0.join("nothing"), &short(1)), ErrorKind::Container);
    let unknown = TuneOptions { sizes: HashMap::from([("m".into(), 1)]), ..short(1) };
    assert_eq!(refused(&folder.0, &unknown), ErrorKind::InvalidArgument);
    assert_eq!(refused(&folder.0, &short(0)), ErrorKind::InvalidArgument);
    let mut calls = 0;
    let mut cancel = |_: &str, _: f32| {
        calls += 1;
        if calls < 4 { Ok(()) } else { Err(Error::new(ErrorKind::InferCanceled, "enough")) }
    };
    let error = tune_model(&folder.0, &short(1), &mut cancel).expect_err("it is cancelled");
    assert_eq!(error.kind(), ErrorKind::InferCanceled);
    assert_eq!(manifest(), before);
}

#[test]
fn a_folder_that_cannot_be_written_is_named_once() {
    let folder = Folder::new("unwritable", true);
    // What is stored is another thing than what is going to be, whatever that is.
    let choices = BTreeMap::from([("a key".to_owned(), "a name".to_owned())]);
    let mut tuned = Tuned::default();
    tuned.set(TunedMachine { choices, ..this_machine(1) });
    optimium_container::save_tuned(&folder.0, &tuned, &[]).expect("it is stored");
    std::fs::write(folder.0.join("notes.txt"), "not the model's").expect("it is written");
    let error = tune_model(&folder.0, &short(1), &mut |_, _| Ok(())).expect_err("it is not overwritten");
    assert_eq!(error.kind(), ErrorKind::Container);
    let message = error.to_string();
    assert_eq!(message.matches(&*folder.0.to_string_lossy()).count(), 1, "{message}");
}

#[test]
fn sizes_are_as_they_are_given() {
    let graph = network();
    for (given, expected) in [(None, 1), (Some(7), 7)] {
        let sizes = given.into_iter().map(|size| ("n".to_owned(), size)).collect();
        let values = inputs::Values::new(&graph, &sizes).expect("there are inputs");
        assert_eq!(
            (values.inputs[0].dims(), values.outputs[0].dims()),
            (&[expected, 40][..], &[expected, 20][..])
        );
        assert_eq!(values.shape_of(&graph, "ya"), [expected, 100]);
    }
}
