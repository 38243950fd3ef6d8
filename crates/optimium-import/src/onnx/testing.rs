//! What the tests of the ONNX reader share.
