//! Life cycle, models, requests and schedulers of the Optimium runtime.
