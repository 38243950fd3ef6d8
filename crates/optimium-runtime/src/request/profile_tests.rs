//! Profiles of requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::tests::{blocking, doubling, inputs, model, outputs};
use super::*;
use crate::profile::{Activity, EventKind};

fn options(repeat: usize, warmup: usize) -> ProfileOptions {
    ProfileOptions { repeat, warmup, warmup_time: Duration::ZERO, ..ProfileOptions::default() }
}

fn profile(request: &InferRequest, options: ProfileOptions) -> Result<()> {
    request.profile(Tensors::Ordered(inputs(1)), Tensors::Ordered(outputs(1)), options, &mut || false)
}

fn count(request: &InferRequest, activity: Activity) -> usize {
    let begin = EventKind { activity, is_end: false };
    request.profile_events().unwrap().0.iter().filter(|event| event.kind == begin).count()
}

#[test]
fn inferences_are_repeated_and_recorded() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counting = runs.clone();
    let request = model(Arc::new(move |_, _, _| {
        counting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }))
    .create_request()
    .unwrap();
    assert_eq!(request.profile_events().unwrap_err().kind(), ErrorKind::InvalidOperation);
    profile(&request, options(5, 3)).unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 8);
    assert_eq!((count(&request, Activity::ModelExecute), count(&request, Activity::Queue)), (5, 1));
    assert_eq!((count(&request, Activity::LayerExecute), request.profile_events().unwrap().1), (5, 0));
    let durations = request.profile_durations().unwrap();
    assert_eq!((durations.model_name.as_str(), durations.model.len()), ("fake", 5));
    assert_eq!(durations.layers.iter().map(|(_, all)| all.len()).collect::<Vec<_>>(), [5]);
    // A plain inference leaves the profile as it is.
    request.infer(Tensors::Ordered(inputs(1)), Tensors::Ordered(outputs(1))).unwrap();
    request.wait(None, &mut || false).unwrap();
    assert_eq!(count(&request, Activity::ModelExecute), 5);
}

#[test]
fn means_that_settle_end_a_profile() {
    let request = model(doubling()).create_request().unwrap();
    let threshold = Duration::from_secs(1);
    let settling = ProfileOptions { stop_threshold: threshold, check_period: 2, ..options(100, 0) };
    profile(&request, settling).unwrap();
    assert_eq!(count(&request, Activity::ModelExecute), 4);
}

#[test]
fn events_without_room_are_counted() {
    let request = model(doubling()).create_request().unwrap();
    profile(&request, ProfileOptions { event_buffer_size: 100, ..options(50, 0) }).unwrap();
    let (events, lost) = request.profile_events().unwrap();
    assert_eq!((events.len(), lost), (4, 2 * (1 + 50 + 50) - 4));
    let message = request.lost_events().unwrap();
    assert!(message.contains("198 events") && message.contains("event_buffer_size of 4848"), "{message}");
    profile(&request, ProfileOptions { event_buffer_size: 4848, ..options(50, 0) }).unwrap();
    assert_eq!(request.lost_events(), None);
}

#[test]
fn progress_can_be_asked() {
    let request = model(doubling()).create_request().unwrap();
    assert_eq!(request.profile_progress(), None);
    let mut seen = Vec::new();
    let warming = ProfileOptions { warmup_time: Duration::from_millis(150), ..options(3, 1) };
    let mut look = || {
        seen.extend(request.profile_progress());
        false
    };
    request.profile(Tensors::Ordered(inputs(1)), Tensors::Ordered(outputs(1)), warming, &mut look).unwrap();
    assert!(seen.iter().all(|progress| (0.0..=1.0).contains(&progress.done)));
    assert!(seen.windows(2).all(|pair| pair[0].is_warm <= pair[1].is_warm));
    let end = request.profile_progress().unwrap();
    assert_eq!((end.is_warm, end.done), (true, 1.0));
}

#[test]
fn what_a_run_consists_of_is_not_always_told() {
    let request = model(doubling()).create_request().unwrap();
    assert_eq!(request.run_details().unwrap_err().kind(), ErrorKind::InvalidOperation);
    profile(&request, options(1, 0)).unwrap();
    assert_eq!(request.run_details().unwrap_err().kind(), ErrorKind::NotImplemented);
}

#[test]
fn wrong_options_are_refused() {
    let request = model(doubling()).create_request().unwrap();
    for wrong in [options(0, 1), ProfileOptions { event_buffer_size: usize::MAX, ..options(1, 1) }] {
        assert_eq!(profile(&request, wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(request.status(), InferStatus::Ready);
    }
}

#[test]
fn interruptions_cancel_a_profile() {
    let (work, _begun, _end) = blocking();
    let request = model(work).create_request().unwrap();
    let (given, results) = (Tensors::Ordered(inputs(1)), Tensors::Ordered(outputs(1)));
    let error = request.profile(given, results, options(1, 0), &mut || true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InferCanceled);
}

#[test]
fn callbacks_may_profile() {
    let request = Arc::new(model(doubling()).create_request().unwrap());
    let inner = Arc::downgrade(&request);
    let (done, is_done) = std::sync::mpsc::channel();
    let first = AtomicUsize::new(0);
    request.set_callback(Some(Arc::new(move |_, _| {
        if first.fetch_add(1, Ordering::Relaxed) == 0 {
            let request = inner.upgrade().unwrap();
            let _ = done.send(profile(&request, options(3, 0)).is_ok());
        }
    })));
    request.infer(Tensors::Ordered(inputs(1)), Tensors::Ordered(outputs(1))).unwrap();
    assert!(is_done.recv_timeout(Duration::from_secs(20)).unwrap());
    request.wait(None, &mut || false).unwrap();
    assert_eq!(count(&request, Activity::ModelExecute), 3);
}
