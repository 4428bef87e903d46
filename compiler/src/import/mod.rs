//! Front ends: files of other systems become graphs.

pub mod onnx;
