//! What a run of a program consisted of.

use optimium_device::{ExecutionState, MemoryDetails, OperationDetails, RunDetails};

use super::run::{Part, ProgramState};
use super::{Program, Stage};

/// The work of every operation, in the order of the program's operations, and the memory of all regions.
pub(super) fn of(state: &ProgramState) -> RunDetails {
    let mut all = RunDetails::default();
    for (stage, part) in state.program.stages.iter().zip(&state.parts) {
        let count = stage.operation_count();
        match part {
            Part::Region(state) => add_region(&mut all, state.details(), count),
            Part::Dynamic(_) => all.operations.extend(unknown(stage, count)),
        }
    }
    all
}

fn add_region(all: &mut RunDetails, region: Option<RunDetails>, count: usize) {
    let Some(RunDetails { operations, memory }) = region else {
        return all.operations.extend(vec![OperationDetails::default(); count]);
    };
    let (first, offset) = (all.operations.len(), all.memory.arena);
    let MemoryDetails { arena, scratch, constants, blocks } = memory;
    all.memory.arena += arena;
    all.memory.scratch += scratch;
    all.memory.constants += constants;
    all.memory.blocks.extend(blocks.into_iter().map(|mut block| {
        block.offset += offset;
        block.first += first;
        block.last += first;
        block
    }));
    all.operations.extend(operations);
}

/// Of a dynamic operator it is known that it runs; what its bodies do differs from time to time.
fn unknown(stage: &Stage, count: usize) -> Vec<OperationDetails> {
    let (inputs, outputs) = match stage {
        Stage::Dynamic(dynamic) => (dynamic.node.inputs.iter(), dynamic.node.outputs.iter()),
        Stage::Region(_) => return vec![OperationDetails::default(); count],
    };
    let own = OperationDetails {
        inputs: vec![Vec::new(); inputs.flatten().count()],
        outputs: vec![Vec::new(); outputs.flatten().count()],
        is_run: true,
        ..OperationDetails::default()
    };
    let mut all = vec![own];
    if let Stage::Dynamic(dynamic) = stage {
        dynamic.operator.bodies().into_iter().for_each(|body| add_body(body, &mut all));
    }
    all
}

fn add_body(body: &Program, all: &mut Vec<OperationDetails>) {
    for operation in body.listed() {
        all.push(OperationDetails {
            inputs: vec![Vec::new(); operation.inputs.len()],
            outputs: vec![Vec::new(); operation.outputs.len()],
            is_run: true,
            ..OperationDetails::default()
        });
    }
}
