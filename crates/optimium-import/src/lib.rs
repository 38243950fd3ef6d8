//! Readers of ONNX and TFLite models.
