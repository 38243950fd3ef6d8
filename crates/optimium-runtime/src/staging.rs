//! From a graph to a model in stages: cut, each part compiled for its own threads.

use std::sync::{Arc, Mutex};

use optimium_device::{Backend, CompileOptions, DeviceId};
use optimium_graph::Graph;
use optimium_tensor::{Error, Result, TensorShape};

use crate::info;
use crate::options::LoadOptions;
use crate::partition::{Partition, Partitions, Source, partition};
use crate::scheduler::{Crossing, SharedState, Stage, StagedModel};

/// Compiles `graph` in as many stages as `options` want, or as it can be cut into.
///
/// # Errors
/// As [`Backend::compile`].
pub(crate) fn compile(
    graph: &Arc<Graph>,
    device: DeviceId,
    backend: &dyn Backend,
    options: &LoadOptions,
    compile_options: &CompileOptions,
) -> Result<StagedModel> {
    let wanted = options.stage_count(compile_options);
    let Partitions { parts, crossings } = partition(graph, wanted);
    if parts.len() < wanted {
        tracing::info!("{:?} can be cut into {} stages, not into {wanted}", graph.name, parts.len());
    }
    let groups = split(compile_options, parts.len());
    let origins = origins(&parts);
    let crossings = crossings.iter().zip(origins).map(|(&id, (from, to))| {
        let value = graph.value(id);
        let element_type = value.element_type();
        Ok(Crossing {
            name: value.name.clone(),
            tensor: u32::try_from(info::index(graph, id)).unwrap_or(u32::MAX),
            element_type: element_type
                .ok_or_else(|| Error::model(format!("{:?} is not a tensor", value.name)))?,
            scheme: value.scheme.clone(),
            shape: value.shape().map_or_else(|| TensorShape::new(Vec::new()), TensorShape::clone),
            from,
            to,
        })
    });
    let crossings = crossings.collect::<Result<_>>()?;
    let (mut stages, mut first_operation, mut first_worker) = (Vec::with_capacity(parts.len()), 0, 0);
    for (part, group) in parts.into_iter().zip(groups) {
        let threads = group.threads;
        let (group, core) = seat(group);
        let executable = backend.compile(&Arc::new(part.graph), &group)?;
        let operations = executable.operations().len();
        stages.push(Stage {
            executable,
            device,
            core,
            first_operation,
            first_worker,
            inputs: part.inputs,
            outputs: part.outputs,
            shared: Mutex::new(SharedState::default()),
        });
        first_operation += operations;
        first_worker += threads;
    }
    let save_path = options.intermediate_save_path.clone();
    Ok(StagedModel { graph: graph.clone(), stages, crossings, save_path })
}

/// For each crossing value the stage that computes it and the first that uses it.
fn origins(parts: &[Partition]) -> Vec<(usize, usize)> {
    let mut origins = Vec::new();
    for (stage, part) in parts.iter().enumerate() {
        for destination in &part.outputs {
            if let crate::partition::Destination::Crossing(index) = *destination {
                origins.push((index, stage));
            }
        }
    }
    origins.sort_unstable();
    let uses = |index: usize| {
        let is_used = |part: &Partition| part.inputs.contains(&Source::Crossing(index));
        parts.iter().position(is_used).unwrap_or(parts.len())
    };
    origins.into_iter().map(|(index, from)| (from, uses(index))).collect()
}

/// The threads and cores of `options` in `count` groups, as even as can be.
fn split(options: &CompileOptions, count: usize) -> Vec<CompileOptions> {
    let start = |group: usize| options.threads * group / count;
    let group = |group: usize| {
        let range = start(group)..start(group + 1);
        CompileOptions {
            threads: range.len(),
            cores: options.cores.as_ref().map(|cores| cores[range].to_vec()),
            ..options.clone()
        }
    };
    (0..count).map(group).collect()
}

/// Where a stage has one core, its own thread does the work there: handing it to another thread would take longer.
fn seat(mut group: CompileOptions) -> (CompileOptions, Option<usize>) {
    let core = match group.cores.as_deref() {
        Some(&[core]) => Some(core),
        _ => None,
    };
    if core.is_some() {
        group.cores = None;
    }
    (group, core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_cores_are_divided() {
        let options =
            CompileOptions { threads: 5, cores: Some(vec![4, 3, 2, 1, 0]), ..CompileOptions::default() };
        let groups = split(&options, 2);
        assert_eq!(groups.iter().map(|group| group.threads).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(groups[0].cores.as_deref(), Some([4, 3].as_slice()));
        assert_eq!(groups[1].cores.as_deref(), Some([2, 1, 0].as_slice()));
        let alone = seat(split(&options, 5).remove(1));
        assert_eq!((alone.0.cores, alone.1), (None, Some(3)));
    }
}
