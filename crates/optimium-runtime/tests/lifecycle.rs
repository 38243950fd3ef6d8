//! What may be done before, during and after the life of the runtime. Its own process, since the life is
//! global.

use std::path::Path;

use optimium_runtime::tensor::ErrorKind;
use optimium_runtime::{LoadOptions, finalize, initialize, is_initialized, load_model, local_info};

#[test]
fn nothing_works_outside_the_life_of_the_runtime() {
    let load =
        || load_model(Path::new("/nonexistent/model"), &LoadOptions::default()).err().map(|e| e.kind());
    assert!(!is_initialized());
    finalize();
    assert_eq!(load(), Some(ErrorKind::InvalidState));
    assert_eq!(local_info().unwrap_err().kind(), ErrorKind::InvalidState);
    for _ in 0..2 {
        initialize().unwrap();
        initialize().unwrap();
        assert!(is_initialized());
        assert_eq!(load(), Some(ErrorKind::Container));
        assert!(!local_info().unwrap().devices.is_empty());
        finalize();
        finalize();
        assert_eq!(load(), Some(ErrorKind::InvalidState));
    }
}
