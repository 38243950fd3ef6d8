//! Models whose stages do what each test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use optimium_device::{Cancellation, OperationInfo, local_info};
use optimium_graph::ops::{Operator, Unary};
use optimium_graph::{Graph, Node};
use optimium_tensor::{ElementType, Expr, Tensor, TensorShape};
use optimium_testing::Random;

use super::*;
use crate::fake::{self, Fake, Faked};
use crate::model::Model;
use crate::options::{LoadOptions, SchedulerType};
use crate::request::{InferRequest, InferStatus, Tensors};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a stage does, besides adding one to every number: it gets the name of its first node.
type Work = Arc<dyn Fn(&str, &Cancellation) -> Result<()> + Send + Sync>;

#[derive(Clone)]
struct Stages {
    work: Work,
    /// The nodes of a stage.
    nodes: Vec<String>,
    /// What the stage gave last.
    last: Option<f32>,
}

impl Fake for Stages {
    fn compiled(&self, graph: &Graph) -> Self {
        let nodes = graph.nodes().iter().map(|node| node.name.clone()).collect();
        Stages { nodes, ..self.clone() }
    }
    fn operations(&self) -> Vec<OperationInfo> {
        let info = |name: &String| OperationInfo {
            name: name.clone(),
            operator: "Exp".into(),
            kernel: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        self.nodes.iter().map(info).collect()
    }
    fn run(&mut self, inputs: &[Tensor], outputs: &[Tensor], cancellation: &Cancellation) -> Result<()> {
        (self.work)(&self.nodes[0], cancellation)?;
        // What comes first, if anything, is the model's input, for the sake of its dynamic dimension.
        let value = inputs[inputs.len() - 1].read::<f32>()?[0] + 1.0;
        outputs.iter().try_for_each(|output| fake::write(output, |elements| elements.fill(value)))?;
        self.last = Some(value);
        Ok(())
    }
    fn intermediate_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn intermediate(&self, name: &str) -> Result<Tensor> {
        match self.last {
            Some(last) if self.nodes[0] == name.replace("inner_", "") => Tensor::scalar(last),
            _ => Err(Error::invalid_argument(name)),
        }
    }
}

/// x → node_0 → between_0 → node_1 → … → y, all `[n]`, with a tensor inner_node_0, … in every stage.
fn model(stages: usize, options: LoadOptions, work: Work) -> Model {
    crate::initialize().unwrap();
    let mut graph = Graph::new("staged");
    let shape = || Some(TensorShape::new(vec![Expr::symbol("n")]));
    let mut value = graph.add_tensor("x", ElementType::F32, shape());
    graph.inputs = vec![value];
    for stage in 0..stages {
        let name = if stage + 1 == stages { "y".to_string() } else { format!("between_{stage}") };
        let output = graph.add_tensor(name, ElementType::F32, shape());
        let op = Operator::Unary { function: Unary::Exp };
        let name = format!("node_{stage}");
        graph.add_tensor(format!("inner_{name}"), ElementType::F32, shape());
        graph.add_node(Node { name, op, inputs: vec![Some(value)], outputs: vec![Some(output)] });
        value = output;
    }
    graph.outputs = vec![value];
    let device = local_info().devices[0];
    Model::compile(graph, device, &Faked(Stages { work, nodes: Vec::new(), last: None }), &options).unwrap()
}

fn options(scheduler_type: SchedulerType, stages: usize) -> LoadOptions {
    LoadOptions { scheduler_type, threads: Some(stages), ..LoadOptions::default() }
}

fn pipeline(stages: usize, work: Work) -> Model {
    model(stages, options(SchedulerType::Pipeline, stages), work)
}

fn nothing() -> Work {
    Arc::new(|_, _| Ok(()))
}

/// Work that says where it is, and goes on when it is told to or cancelled.
fn gated() -> (Work, Receiver<String>, Sender<()>) {
    let (tell, told) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let work: Work = Arc::new(move |node, cancellation| {
        let _ = tell.send(node.to_string());
        while gate.lock().unwrap().recv_timeout(Duration::from_millis(1)).is_err() {
            if cancellation.is_cancelled() {
                return Err(stage::cancelled());
            }
        }
        Ok(())
    });
    (work, told, open)
}

fn infer(request: &InferRequest, value: f32) -> Result<Tensor> {
    let output = Tensor::zeros(ElementType::F32, &[2]).unwrap();
    let input = Tensor::from_slice(&[2], &[value; 2]).unwrap();
    request.infer(Tensors::Ordered(vec![input]), Tensors::Ordered(vec![output.clone()]))?;
    Ok(output)
}

fn wait(request: &InferRequest) -> Result<()> {
    let is_late = request.wait(Some(PATIENCE), &mut || false)?;
    assert!(!is_late, "hangs");
    Ok(())
}

fn first(tensor: &Tensor) -> f32 {
    tensor.read::<f32>().unwrap()[0]
}

#[test]
fn results_pass_through_all_stages() {
    for stages in 1..5 {
        let model = pipeline(stages, nothing());
        assert_eq!(model.operations().len(), stages);
        let requests: Vec<InferRequest> = (0..20).map(|_| model.create_request().unwrap()).collect();
        for round in 0..3 {
            let outputs: Vec<Tensor> =
                requests.iter().enumerate().map(|(i, r)| infer(r, (i * round) as f32).unwrap()).collect();
            for (i, (request, output)) in requests.iter().zip(&outputs).enumerate() {
                wait(request).unwrap();
                assert_eq!(first(output), (i * round + stages) as f32);
            }
        }
    }
}

#[test]
fn stages_work_at_the_same_time() {
    let (work, at, open) = gated();
    let model = pipeline(2, work);
    let requests = [model.create_request().unwrap(), model.create_request().unwrap()];
    let outputs: Vec<Tensor> = requests.iter().map(|request| infer(request, 0.0).unwrap()).collect();
    let next = || at.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), "node_0");
    open.send(()).unwrap();
    let mut both = [next(), next()];
    both.sort();
    assert_eq!(both, ["node_0", "node_1"]);
    (0..3).for_each(|_| open.send(()).unwrap());
    requests.iter().for_each(|request| wait(request).unwrap());
    assert_eq!(outputs.iter().map(first).collect::<Vec<_>>(), [2.0, 2.0]);
}

#[test]
fn inferences_come_in_order_and_a_full_queue_refuses() {
    for scheduler in [SchedulerType::Exclusive, SchedulerType::Pipeline] {
        let (work, at, open) = gated();
        let options = LoadOptions { queue_capacity: Some(2), ..options(scheduler, 1) };
        let model = model(1, options, work);
        let requests: Vec<InferRequest> = (0..4).map(|_| model.create_request().unwrap()).collect();
        let (tell, told) = mpsc::channel();
        for (i, request) in requests.iter().enumerate() {
            let tell = tell.clone();
            request.set_callback(Some(Arc::new(move |status, _| tell.send((i, status)).unwrap())));
        }
        infer(&requests[0], 0.0).unwrap();
        at.recv_timeout(PATIENCE).unwrap();
        infer(&requests[1], 0.0).unwrap();
        infer(&requests[2], 0.0).unwrap();
        let error = infer(&requests[3], 0.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfResource);
        assert!(
            error.message().contains("2 inferences") && error.message().contains("queue_capacity"),
            "{error}"
        );
        assert_eq!(requests[3].status(), InferStatus::Ready);
        for i in 0..3 {
            open.send(()).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (i, InferStatus::Ready));
        }
        infer(&requests[3], 0.0).unwrap();
        open.send(()).unwrap();
        wait(&requests[3]).unwrap();
    }
}

#[test]
fn what_waits_is_cancelled_at_once() {
    let (work, at, open) = gated();
    let model = model(1, options(SchedulerType::Exclusive, 1), work);
    let (running, waiting) = (model.create_request().unwrap(), model.create_request().unwrap());
    infer(&running, 0.0).unwrap();
    at.recv_timeout(PATIENCE).unwrap();
    for with_callback in [false, true] {
        let (tell, told) = mpsc::channel();
        if with_callback {
            waiting.set_callback(Some(Arc::new(move |status, _| tell.send(status).unwrap())));
        }
        let output = infer(&waiting, 0.0).unwrap();
        waiting.cancel();
        assert_eq!(wait(&waiting).unwrap_err().kind(), ErrorKind::InferCanceled);
        assert!(output.write::<f32>().is_ok(), "its memory is free");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), vec![InferStatus::Fault; usize::from(with_callback)]);
    }
    assert_eq!(running.status(), InferStatus::Running);
    open.send(()).unwrap();
    wait(&running).unwrap();
    infer(&running, 0.0).unwrap();
    at.recv_timeout(PATIENCE).unwrap();
    running.cancel();
    assert_eq!(wait(&running).unwrap_err().kind(), ErrorKind::InferCanceled);
}

#[test]
fn failures_in_any_stage_harm_nobody_else() {
    let count = Arc::new(AtomicUsize::new(0));
    for culprit in ["node_0", "node_1", "node_2"] {
        let counter = count.clone();
        let model = pipeline(
            3,
            Arc::new(move |node, _| {
                match counter.fetch_add(usize::from(node == culprit), Ordering::Relaxed) % 3 {
                    0 if node == culprit => Err(Error::infer("out of range")),
                    1 if node == culprit => panic!("defect"),
                    _ => Ok(()),
                }
            }),
        );
        count.store(0, Ordering::Relaxed);
        let requests: Vec<InferRequest> = (0..9).map(|_| model.create_request().unwrap()).collect();
        let outputs: Vec<Tensor> = requests.iter().map(|request| infer(request, 1.0).unwrap()).collect();
        for (i, (request, output)) in requests.iter().zip(outputs).enumerate() {
            match (i % 3, wait(request)) {
                (0, Err(error)) => assert!(error.message().contains("out of range"), "{error}"),
                (1, Err(error)) => assert!(error.message().contains("defect"), "{error}"),
                (2, Ok(())) => assert_eq!(first(&output), 4.0),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn callbacks_may_wait_for_other_requests_of_the_model() {
    for stages in 1..3 {
        let model = pipeline(stages, nothing());
        let (tell, told) = mpsc::channel();
        for _ in 0..8 {
            let (request, inner) = (model.create_request().unwrap(), model.create_request().unwrap());
            inner.set_callback(Some(Arc::new(|_, _| {})));
            let tell = tell.clone();
            request.set_callback(Some(Arc::new(move |_, _| {
                let output = infer(&inner, 5.0).unwrap();
                wait(&inner).unwrap();
                tell.send(first(&output)).unwrap();
            })));
            infer(&request, 0.0).unwrap();
        }
        for _ in 0..8 {
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (5 + stages) as f32);
        }
    }
}

#[test]
fn what_runs_outlives_its_handles() {
    let (work, at, open) = gated();
    let model = pipeline(2, work);
    let shared = match &model.0.scheduler {
        crate::scheduler::Scheduler::Staged(staged) => Arc::downgrade(staged.shared()),
        crate::scheduler::Scheduler::Simple(_) => unreachable!("a pipeline"),
    };
    let request = model.create_request().unwrap();
    let output = infer(&request, 0.0).unwrap();
    at.recv_timeout(PATIENCE).unwrap();
    drop((model, request));
    assert!(output.read::<f32>().is_err(), "still in use");
    (0..2).for_each(|_| open.send(()).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while output.read::<f32>().is_err() || shared.strong_count() > 0 {
        assert!(Instant::now() < deadline, "the threads of the model live on");
        thread::yield_now();
    }
    assert_eq!(first(&output), 2.0);
}

#[test]
fn intermediate_tensors_belong_to_the_request_that_ran_last() {
    let options = LoadOptions { memory_optimization: false, ..options(SchedulerType::Pipeline, 2) };
    let model = model(2, options, nothing());
    let (one, other) = (model.create_request().unwrap(), model.create_request().unwrap());
    let names = ["inner_node_0", "inner_node_1", "between_0"];
    let read = |request: &InferRequest| -> Vec<Result<f32, ErrorKind>> {
        let value = |name| request.tensor(name).map(|tensor| first(&tensor)).map_err(|error| error.kind());
        names.map(value).to_vec()
    };
    let refused = vec![Err(ErrorKind::InvalidOperation); 3];
    assert_eq!(read(&one), refused);
    for (request, late) in [(&one, &other), (&other, &one)] {
        infer(request, 0.0).unwrap();
        wait(request).unwrap();
        assert_eq!(read(request), [Ok(1.0), Ok(2.0), Ok(1.0)]);
        assert_eq!(read(late), refused);
    }
    let message = one.tensor("inner_node_0").unwrap_err().to_string();
    assert!(message.contains("another request"), "{message}");
}

#[test]
fn a_profile_fills_the_pipeline() {
    use crate::profile::{EventKind, ProfileOptions};

    let model = pipeline(
        2,
        Arc::new(|_, _| {
            thread::sleep(Duration::from_millis(2));
            Ok(())
        }),
    );
    let request = model.create_request().unwrap();
    let tensor = || Tensors::Ordered(vec![Tensor::zeros(ElementType::F32, &[2]).unwrap()]);
    let options =
        ProfileOptions { repeat: 6, warmup: 2, warmup_time: Duration::ZERO, ..ProfileOptions::default() };
    request.profile(tensor(), tensor(), options, &mut || false).unwrap();
    let (events, lost) = request.profile_events().unwrap();
    assert_eq!(lost, 0);
    let count = |activity| {
        let kind = EventKind { activity, is_end: true };
        events.iter().filter(|event| event.kind == kind).count()
    };
    let activities =
        [Activity::Queue, Activity::ModelExecute, Activity::LayerExecute, Activity::Wait, Activity::Copy];
    assert_eq!(activities.map(count), [6, 6, 12, 6, 6]);
    let mut open = [0i32; 2];
    let mut both = 0;
    for event in events.iter().filter(|event| event.kind.activity == Activity::LayerExecute) {
        assert_eq!(event.thread, event.operation, "the worker of a stage is told apart");
        open[event.thread.unwrap() as usize] += if event.kind.is_end { -1 } else { 1 };
        both += u32::from(open == [1, 1]);
    }
    assert!(both >= 3, "the stages hardly overlap: {both}");
    let durations = request.profile_durations().unwrap();
    assert_eq!(durations.layers.iter().map(|(_, all)| all.len()).collect::<Vec<_>>(), [6, 6]);
    assert_eq!(durations.copies.len(), 1);
    assert_eq!(durations.copies[0].0, "between_0");
}

#[test]
fn a_cancelled_profile_ends() {
    let model = pipeline(3, nothing());
    let request = model.create_request().unwrap();
    let tensor = || Tensors::Ordered(vec![Tensor::zeros(ElementType::F32, &[2]).unwrap()]);
    let options = crate::profile::ProfileOptions {
        warmup_time: Duration::from_secs(3600),
        ..crate::profile::ProfileOptions::default()
    };
    let error = request.profile(tensor(), tensor(), options, &mut || true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InferCanceled);
    infer(&request, 0.0).unwrap();
    wait(&request).unwrap();
}

#[test]
fn many_threads_infer_cancel_and_drop() {
    for (scheduler, stages) in [(SchedulerType::Exclusive, 1), (SchedulerType::Pipeline, 3)] {
        let model = model(3, LoadOptions { threads: Some(stages), ..options(scheduler, stages) }, nothing());
        let calls = Arc::new(AtomicUsize::new(0));
        let ends: usize = thread::scope(|scope| {
            let thread = |seed: u64| {
                let (model, calls) = (&model, &calls);
                scope.spawn(move || hammer(model, calls, &mut Random::new(seed)))
            };
            let threads: Vec<_> = (1..7).map(thread).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let deadline = Instant::now() + PATIENCE;
        while calls.load(Ordering::Relaxed) < ends && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(calls.load(Ordering::Relaxed), ends);
    }
}

/// Uses and misuses requests; the result is the number of inferences that were begun.
fn hammer(model: &Model, calls: &Arc<AtomicUsize>, random: &mut Random) -> usize {
    let create = || {
        let (request, calls) = (model.create_request().unwrap(), calls.clone());
        request.set_callback(Some(Arc::new(move |_, _| {
            assert!(!calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(500), "in the callback");
        })));
        request
    };
    let mut request = create();
    for _ in 0..500 {
        infer(&request, 0.0).unwrap();
        match random.range(0, 6) {
            0 => request.cancel(),
            1 => request = create(),
            2 => while request.status() == InferStatus::Running {},
            3 => drop(request.wait(Some(Duration::from_micros(30)), &mut || false)),
            _ => {}
        }
        if let Err(error) = wait(&request) {
            assert_eq!(error.kind(), ErrorKind::InferCanceled, "{error}");
        }
    }
    500
}
