//! Requests over a backend whose inferences do what each test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use optimium_device::{Cancellation, OperationInfo, local_info};
use optimium_graph::Graph;
use optimium_tensor::{Buffer, ElementType, Expr, TensorShape};
use optimium_testing::each_case;

use super::*;
use crate::fake::{self, Fake, Faked};
use crate::model::InputShapes;
use crate::options::LoadOptions;

pub(super) type Work = Arc<dyn Fn(&[Tensor], &[Tensor], &Cancellation) -> Result<()> + Send + Sync>;

#[derive(Clone)]
struct Working(Work);

impl Fake for Working {
    fn compiled(&self, _: &Graph) -> Self {
        self.clone()
    }
    fn operations(&self) -> Vec<OperationInfo> {
        Vec::new()
    }
    fn run(&mut self, inputs: &[Tensor], outputs: &[Tensor], cancellation: &Cancellation) -> Result<()> {
        self.0(inputs, outputs, cancellation)
    }
    fn intermediate_names(&self) -> Vec<String> {
        vec!["inner/:1".into()]
    }
    fn intermediate(&self, name: &str) -> Result<Tensor> {
        if name == "inner/:1" { Tensor::scalar(7f32) } else { Err(Error::invalid_argument(name)) }
    }
}

/// A model with the inputs a `[n, 4]` and b `[n, 2]` and the outputs x `[n, 4]` and y `[2·n]`.
fn graph() -> Graph {
    let n = || Expr::symbol("n");
    let mut graph = Graph::new("fake");
    let shape = |dims| Some(TensorShape::new(dims));
    graph.inputs = vec![
        graph.add_tensor("a", ElementType::F32, shape(vec![n(), 4usize.into()])),
        graph.add_tensor("b", ElementType::QS8, shape(vec![n(), 2usize.into()])),
    ];
    graph.add_tensor("inner/:1", ElementType::F32, shape(vec![]));
    graph.outputs = vec![
        graph.add_tensor("x", ElementType::F32, shape(vec![n(), 4usize.into()])),
        graph.add_tensor("y", ElementType::F32, shape(vec![n() * 2i64.into()])),
    ];
    graph
}

fn model_with(options: &LoadOptions, work: Work) -> Model {
    crate::initialize().unwrap();
    Model::compile(graph(), local_info().devices[0], &Faked(Working(work)), options).unwrap()
}

pub(super) fn model(work: Work) -> Model {
    model_with(&LoadOptions::default(), work)
}

/// Work that doubles the first input.
pub(super) fn doubling() -> Work {
    Arc::new(|inputs, outputs, _| {
        let from: Vec<f32> = inputs_of(&inputs[0]);
        fake::write(&outputs[0], |to| to.iter_mut().zip(from).for_each(|(to, from)| *to = 2.0 * from))
    })
}

fn inputs_of(tensor: &Tensor) -> Vec<f32> {
    tensor.read::<f32>().unwrap().to_vec()
}

/// Work that says when it begins and runs until it is told to end or cancelled.
pub(super) fn blocking() -> (Work, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, wait_for_begin) = mpsc::channel();
    let (end, wait_for_end) = mpsc::channel::<()>();
    let wait_for_end = Mutex::new(wait_for_end);
    let work: Work = Arc::new(move |_, _, cancellation| {
        let _ = begun.send(());
        while wait_for_end.lock().unwrap().recv_timeout(Duration::from_millis(1)).is_err() {
            if cancellation.is_cancelled() {
                return Err(Error::new(ErrorKind::InferCanceled, "cancelled"));
            }
        }
        Ok(())
    });
    (work, wait_for_begin, end)
}

fn zeros(element_type: ElementType, dims: &[usize]) -> Tensor {
    Tensor::zeros(element_type, dims).unwrap()
}

pub(super) fn inputs(n: usize) -> Vec<Tensor> {
    vec![zeros(ElementType::F32, &[n, 4]), zeros(ElementType::I8, &[n, 2])]
}

pub(super) fn outputs(n: usize) -> Vec<Tensor> {
    vec![zeros(ElementType::F32, &[n, 4]), zeros(ElementType::F32, &[2 * n])]
}

fn infer(request: &InferRequest, inputs: Vec<Tensor>, outputs: Vec<Tensor>) -> Result<()> {
    request.infer(Tensors::Ordered(inputs), Tensors::Ordered(outputs))
}

fn wait(request: &InferRequest) -> Result<bool> {
    request.wait(None, &mut || false)
}

#[test]
fn runs_again_and_again_with_shapes_that_change() {
    let request = model(doubling()).create_request().unwrap();
    for n in [1, 3, 3, 2] {
        let (mut given, results) = (inputs(n), outputs(n));
        given[0] = Tensor::from_slice(&[n, 4], &vec![1.5f32; 4 * n]).unwrap();
        infer(&request, given, results.clone()).unwrap();
        assert!(!wait(&request).unwrap());
        assert_eq!(inputs_of(&results[0]), vec![3.0; 4 * n]);
        assert_eq!(request.status(), InferStatus::Ready);
    }
}

#[test]
fn names_may_come_in_any_order() {
    let request = model(doubling()).create_request().unwrap();
    let [a, b] = <[Tensor; 2]>::try_from(inputs(1)).unwrap();
    let [x, y] = <[Tensor; 2]>::try_from(outputs(1)).unwrap();
    request
        .infer(Tensors::Named(vec![("b", b), ("a", a)]), Tensors::Named(vec![("y", y), ("x", x)]))
        .unwrap();
    assert!(!wait(&request).unwrap());
}

#[test]
fn wrong_tensors_are_refused_before_anything_runs() {
    let request = model(Arc::new(|_, _, _| panic!("must not run"))).create_request().unwrap();
    let read_only = || {
        let memory = Arc::new(Buffer::zeroed(16).unwrap());
        let pointer = std::ptr::NonNull::new(memory.as_ptr()).unwrap();
        // SAFETY: the buffer keeps the memory alive.
        let buffer = unsafe { Buffer::foreign(pointer, 16, false, memory) };
        Tensor::from_buffer(ElementType::F32, &[1, 4], Arc::new(buffer), 0).unwrap()
    };
    let f32s = |dims: &[usize]| zeros(ElementType::F32, dims);
    let shared = f32s(&[1, 4]);
    let (first_in, first_out) = (|t| vec![t, inputs(1).remove(1)], |t| vec![t, outputs(1).remove(1)]);
    let cases = [
        ("too few inputs", inputs(1)[..1].to_vec(), outputs(1), ErrorKind::InvalidArgument),
        ("too many outputs", inputs(1), [outputs(1), outputs(1)].concat(), ErrorKind::InvalidArgument),
        ("input type", first_in(zeros(ElementType::F64, &[1, 4])), outputs(1), ErrorKind::Type),
        ("output type", inputs(1), first_out(zeros(ElementType::I32, &[1, 4])), ErrorKind::Type),
        ("input rank", first_in(f32s(&[4])), outputs(1), ErrorKind::Shape),
        ("input dimension", first_in(f32s(&[1, 5])), outputs(1), ErrorKind::Shape),
        ("inputs disagree", first_in(f32s(&[2, 4])), outputs(1), ErrorKind::Shape),
        ("output dimension", inputs(1), outputs(2), ErrorKind::Shape),
        ("read-only output", inputs(1), first_out(read_only()), ErrorKind::InvalidArgument),
        ("input is output", first_in(shared.clone()), first_out(shared.clone()), ErrorKind::InvalidArgument),
        (
            "output twice",
            inputs(2),
            vec![zeros(ElementType::F32, &[2, 4]), zeros(ElementType::F32, &[4])],
            ErrorKind::InvalidArgument,
        ),
    ];
    each_case(cases, |(name, inputs, outputs, kind)| {
        let mut outputs = outputs.clone();
        if *name == "output twice" {
            let (buffer, _) = outputs[0].buffer().unwrap();
            outputs[1] = Tensor::from_buffer(ElementType::F32, &[4], buffer.clone(), 16).unwrap();
        }
        match infer(&request, inputs.clone(), outputs) {
            Err(error) if error.kind() == *kind => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let named = |names: [&'static str; 2]| Tensors::Named(names.into_iter().zip(inputs(1)).collect());
    for names in [["a", "c"], ["c", "d"]] {
        let error = request.infer(named(names), Tensors::Ordered(outputs(1))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("\"c\""), "{error}");
    }
    assert_eq!(request.status(), InferStatus::Ready);
    assert!(!wait(&request).unwrap(), "nothing was begun");
}

#[test]
fn a_running_request_and_its_tensors_are_taken() {
    let (work, begun, end) = blocking();
    let model = model(work);
    let (request, other) = (model.create_request().unwrap(), model.create_request().unwrap());
    let (given, results) = (inputs(1), outputs(1));
    infer(&request, given.clone(), results.clone()).unwrap();
    begun.recv().unwrap();
    assert_eq!(request.status(), InferStatus::Running);
    assert!(request.wait(Some(Duration::from_millis(2)), &mut || false).unwrap(), "not finished");
    assert!(request.wait(None, &mut || true).unwrap(), "interrupted");
    let kind = |result: Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(infer(&request, inputs(1), outputs(1))), ErrorKind::InvalidOperation);
    assert_eq!(kind(infer(&other, given.clone(), results.clone())), ErrorKind::InvalidOperation);
    let mut reading_result = inputs(1);
    reading_result[0] = results[0].clone();
    assert_eq!(kind(infer(&other, reading_result, outputs(1))), ErrorKind::InvalidOperation);
    end.send(()).unwrap();
    assert!(!wait(&request).unwrap());
    infer(&other, given, results).unwrap();
    end.send(()).unwrap();
    assert!(!wait(&other).unwrap());
}

#[test]
fn a_fault_is_reported_once_and_then_forgiven() {
    let count = AtomicUsize::new(0);
    let request = model(Arc::new(move |_, _, _| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Error::infer("out of range")),
        1 => panic!("defect"),
        _ => Ok(()),
    }))
    .create_request()
    .unwrap();
    for text in ["out of range", "defect"] {
        infer(&request, inputs(1), outputs(1)).unwrap();
        while request.status() == InferStatus::Running {
            std::thread::yield_now();
        }
        assert_eq!(request.status(), InferStatus::Fault);
        let refused = infer(&request, inputs(1), outputs(1)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidOperation);
        let error = wait(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Infer);
        assert!(error.message().contains(text), "{error}");
        assert!(!wait(&request).unwrap());
        assert_eq!(request.status(), InferStatus::Fault);
    }
    infer(&request, inputs(1), outputs(1)).unwrap();
    assert!(!wait(&request).unwrap());
    assert_eq!(request.status(), InferStatus::Ready);
}

#[test]
fn a_cancelled_inference_says_so() {
    let (work, begun, end) = blocking();
    let request = model(work).create_request().unwrap();
    request.cancel();
    infer(&request, inputs(1), outputs(1)).unwrap();
    begun.recv().unwrap();
    request.cancel();
    assert_eq!(wait(&request).unwrap_err().kind(), ErrorKind::InferCanceled);
    infer(&request, inputs(1), outputs(1)).unwrap();
    end.send(()).unwrap();
    assert!(!wait(&request).unwrap());
}

#[test]
fn a_callback_may_use_the_request() {
    let request = Arc::new(model(doubling()).create_request().unwrap());
    let (seen, calls) = mpsc::channel();
    let in_callback = Arc::downgrade(&request);
    let left = AtomicUsize::new(2);
    request.set_callback(Some(Arc::new(move |status, error| {
        let request = in_callback.upgrade().unwrap();
        assert!(error.is_none());
        assert_eq!((status, request.status()), (InferStatus::Ready, InferStatus::Ready));
        assert!(!wait(&request).unwrap());
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            infer(&request, inputs(1), outputs(1)).unwrap();
        }
        seen.send(()).unwrap();
    })));
    infer(&request, inputs(1), outputs(1)).unwrap();
    for _ in 0..3 {
        calls.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    assert!(!wait(&request).unwrap());
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    let request = model(doubling()).create_request().unwrap();
    request.set_callback(Some(Arc::new(|_, _| panic!("in the callback"))));
    for _ in 0..3 {
        infer(&request, inputs(1), outputs(1)).unwrap();
        assert!(!wait(&request).unwrap());
    }
}

#[test]
fn what_runs_outlives_its_handles() {
    let (work, begun, end) = blocking();
    let results = outputs(1);
    let model = model(work);
    let request = model.create_request().unwrap();
    infer(&request, inputs(1), results.clone()).unwrap();
    begun.recv().unwrap();
    drop((model, request));
    assert!(results[0].read::<f32>().is_err(), "still in use");
    end.send(()).unwrap();
    while results[0].read::<f32>().is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn many_requests_share_a_model() {
    let model = model(doubling());
    let requests: Vec<InferRequest> = (0..32).map(|_| model.create_request().unwrap()).collect();
    let results: Vec<Vec<Tensor>> = requests.iter().map(|_| outputs(2)).collect();
    for (i, (request, results)) in requests.iter().zip(&results).enumerate() {
        let mut given = inputs(2);
        given[0] = Tensor::from_slice(&[2, 4], &[i as f32; 8]).unwrap();
        infer(request, given, results.clone()).unwrap();
    }
    for (i, (request, results)) in requests.iter().zip(&results).enumerate() {
        assert!(!wait(request).unwrap());
        assert_eq!(inputs_of(&results[0]), vec![2.0 * i as f32; 8]);
    }
}

#[test]
fn callers_may_change_their_ways() {
    let request = model(doubling()).create_request().unwrap();
    let (calls, called) = mpsc::channel();
    request.set_callback(Some(Arc::new(move |_, _| calls.send(std::thread::current().id()).unwrap())));
    let here = std::thread::current().id();
    for round in 0..300 {
        infer(&request, inputs(1), outputs(1)).unwrap();
        match round % 3 {
            // Waiting at once makes the request expect the same of the next time.
            0 => assert!(!wait(&request).unwrap()),
            1 => assert!(!wait_with_timeout(&request)),
            _ => assert_ne!(called.recv_timeout(Duration::from_secs(20)).unwrap(), here),
        }
        while request.status() == InferStatus::Running {
            std::thread::yield_now();
        }
        assert!(!wait(&request).unwrap());
        called.try_iter().for_each(drop);
    }
}

fn wait_with_timeout(request: &InferRequest) -> bool {
    request.wait(Some(Duration::from_secs(20)), &mut || false).unwrap()
}

#[test]
fn several_inferences_of_one_caller_run_side_by_side() {
    let (begun, begins) = mpsc::channel();
    let gate = Arc::new(std::sync::Barrier::new(2));
    let meet = AtomicUsize::new(0);
    let model = model(Arc::new(move |_, _, _| {
        // The first rounds teach the requests that their caller waits at once.
        if meet.fetch_add(1, Ordering::Relaxed) >= 8 {
            begun.send(()).unwrap();
            gate.wait();
        }
        Ok(())
    }));
    if model.0.scheduler.max_workers() < 2 {
        return;
    }
    let requests = [model.create_request().unwrap(), model.create_request().unwrap()];
    for _ in 0..4 {
        for request in &requests {
            infer(request, inputs(1), outputs(1)).unwrap();
            assert!(!wait(request).unwrap());
        }
    }
    for request in &requests {
        infer(request, inputs(1), outputs(1)).unwrap();
    }
    for request in &requests {
        assert!(!wait(request).unwrap());
    }
    assert_eq!(begins.try_iter().count(), 2);
}

#[test]
fn quick_waits_do_all_of_a_wait_or_nothing() {
    let fails = AtomicUsize::new(0);
    let request = model(Arc::new(move |_, _, _| match fails.fetch_add(1, Ordering::Relaxed) {
        n if n % 5 == 4 => Err(Error::infer("the fifth")),
        _ => Ok(()),
    }))
    .create_request()
    .unwrap();
    let (mut quick, mut failed) = (0, 0);
    for _ in 0..1000 {
        infer(&request, inputs(1), outputs(1)).unwrap();
        let result = match request.wait_quickly() {
            Some(result) => {
                quick += 1;
                result
            }
            None => wait(&request).map(|late| assert!(!late)),
        };
        failed += usize::from(result.is_err());
        assert_ne!(request.status(), InferStatus::Running);
        assert!(request.wait_quickly().is_none(), "nothing is queued");
    }
    assert_eq!(failed, 200);
    assert!(quick > 0);
}

#[test]
fn many_threads_infer_cancel_and_drop() {
    let model = model(Arc::new(|_, _, cancellation| {
        for _ in 0..20 {
            if cancellation.is_cancelled() {
                return Err(Error::new(ErrorKind::InferCanceled, "cancelled"));
            }
            std::hint::spin_loop();
        }
        Ok(())
    }));
    std::thread::scope(|scope| {
        for seed in 0..6u64 {
            let model = &model;
            scope.spawn(move || {
                let mut random = optimium_testing::Random::new(seed + 1);
                let mut request = model.create_request().unwrap();
                for _ in 0..400 {
                    infer(&request, inputs(1), outputs(1)).unwrap();
                    let action = random.range(0, 6) as usize;
                    match action {
                        0 => request.cancel(),
                        1 => request = model.create_request().unwrap(),
                        2 => while request.status() == InferStatus::Running {},
                        3 => drop(request.wait(Some(Duration::from_micros(30)), &mut || false)),
                        _ => {}
                    }
                    match wait(&request) {
                        Ok(late) => assert!(!late),
                        Err(error) => {
                            assert!(action == 0 && error.kind() == ErrorKind::InferCanceled, "{error}")
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn intermediate_tensors_can_be_read_and_saved() {
    let folder = std::env::temp_dir().join(format!("optimium-intermediates-{}", std::process::id()));
    let options = LoadOptions { intermediate_save_path: Some(folder.clone()), ..LoadOptions::default() };
    let request = model_with(&options, doubling()).create_request().unwrap();
    assert_eq!(request.tensor("inner/:1").unwrap_err().kind(), ErrorKind::InvalidOperation);
    let results = outputs(1);
    infer(&request, inputs(1), results.clone()).unwrap();
    assert!(!wait(&request).unwrap());
    assert_eq!(inputs_of(&request.tensor("inner/:1").unwrap()), [7.0]);
    assert_eq!(request.tensor("y").unwrap().dims(), [2]);
    assert_eq!(request.tensor("nothing").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
    assert!(index.contains("inner/:1") && index.contains("00000.npy"), "{index}");
    assert_eq!(inputs_of(&crate::tensor_file::load(&folder.join("00000.npy")).unwrap()), [7.0]);
    std::fs::remove_dir_all(folder).unwrap();
    let refused = model(doubling()).create_request().unwrap().tensor("inner/:1").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidOperation);
}

#[test]
fn shapes_follow_from_shapes() {
    let model = model(doubling());
    assert!(model.is_dynamic());
    let fixed = TensorShape::fixed;
    let ordered = |n: usize, m: usize| InputShapes::Ordered(vec![fixed(&[n, 4]), fixed(&[m, 2])]);
    assert_eq!(model.infer_shape("y", &ordered(3, 3)).unwrap(), fixed(&[6]));
    let named = InputShapes::Named(vec![("b", fixed(&[2, 2])), ("a", fixed(&[2, 4]))]);
    assert_eq!(model.infer_shape("x", &named).unwrap(), fixed(&[2, 4]));
    let kind = |shapes| model.infer_shape("y", &shapes).unwrap_err().kind();
    assert_eq!(kind(ordered(3, 2)), ErrorKind::Shape);
    assert_eq!(kind(InputShapes::Ordered(vec![fixed(&[3, 4])])), ErrorKind::InvalidArgument);
    assert_eq!(kind(InputShapes::Ordered(vec![fixed(&[3]), fixed(&[3, 2])])), ErrorKind::Shape);
    assert_eq!(model.infer_shape("z", &ordered(1, 1)).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn what_follows_an_inference_finds_it_ended() {
    let (work, begun, end) = blocking();
    let request = Arc::new(model(work).create_request().unwrap());
    let called_back = Arc::new(AtomicUsize::new(0));
    let counter = called_back.clone();
    request.set_callback(Some(Arc::new(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
    })));
    let (given, results) = (inputs(1), outputs(1));
    let (tell, told) = mpsc::channel();
    let begin = |tell: mpsc::Sender<_>| {
        let (itself, called_back) = (request.clone(), called_back.clone());
        let then: Completion = Box::new(move || {
            let _ = tell.send((
                itself.status(),
                called_back.load(Ordering::Relaxed),
                itself.wait(None, &mut || false),
            ));
        });
        request.infer_then(Tensors::Ordered(given.clone()), Tensors::Ordered(results.clone()), then)
    };
    begin(tell.clone()).unwrap();
    begun.recv().unwrap();
    let (refused, nothing) = mpsc::channel();
    assert_eq!(begin(refused).unwrap_err().kind(), ErrorKind::InvalidOperation);
    end.send(()).unwrap();
    let (status, calls, waited) = told.recv().unwrap();
    assert_eq!((status, calls, waited.unwrap()), (InferStatus::Ready, 1, false));
    assert!(nothing.try_recv().is_err(), "nothing follows an inference that did not begin");

    begin(tell).unwrap();
    begun.recv().unwrap();
    request.cancel();
    let (status, calls, waited) = told.recv().unwrap();
    assert_eq!((status, calls), (InferStatus::Fault, 2));
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::InferCanceled);
}
