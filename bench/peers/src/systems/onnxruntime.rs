//! ONNX Runtime through its C API. Its `f32` products are exact on x86-64: the option for `bf16` in
//! their place exists for 64-bit Arm alone, and is off.

use super::System;
use crate::{Input, Job, Result};
use burin_runtime::{DType, Tensor};
use libloading::{Library, Symbol};
use ort_sys::{ONNXTensorElementDataType, OrtApi, OrtApiBase, OrtSession, OrtStatusPtr, OrtValue};
use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

pub(super) struct OnnxRuntime {
    api: &'static OrtApi,
    session: *mut OrtSession,
    input_names: Vec<*const c_char>,
    output_names: Vec<*const c_char>,
    inputs: Vec<*const OrtValue>,
    /// Made by the first run, and written to by each one after it.
    outputs: Vec<*mut OrtValue>,
    _names: Vec<CString>,
    _tensors: Vec<Input>,
}

impl OnnxRuntime {
    pub(super) fn load(job: &Job, library: &Path, tensors: Vec<Input>) -> Result<OnnxRuntime> {
        // SAFETY: the library's initialisers are those of ONNX Runtime. It is never closed.
        let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(library) }?));
        // SAFETY: the function's type is the one that its header declares.
        let base: Symbol<'_, unsafe extern "system" fn() -> *const OrtApiBase> =
            unsafe { library.get(b"OrtGetApiBase") }?;
        // SAFETY: the library serves every older version of its API.
        let api = unsafe { ((*base()).GetApi)(ort_sys::ORT_API_VERSION).as_ref() };
        let api = api.ok_or("ONNX Runtime does not have this version of its API")?;
        let check = |status| check(api, status);

        let (mut env, mut options, mut session, mut memory) =
            (null_mut(), null_mut(), null_mut(), null_mut());
        let model = CString::new(job.model.as_os_str().as_bytes())?;
        // SAFETY: plain calls of the API, with live pointers; what they make lives as long as the program.
        unsafe {
            check((api.CreateEnv)(
                ort_sys::OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR,
                c"bench".as_ptr(),
                &mut env,
            ))?;
            check((api.CreateSessionOptions)(&mut options))?;
            check((api.SetIntraOpNumThreads)(options, job.threads as i32))?;
            check((api.SetInterOpNumThreads)(options, 1))?;
            check((api.SetSessionGraphOptimizationLevel)(
                options,
                ort_sys::GraphOptimizationLevel::ORT_ENABLE_ALL,
            ))?;
            check((api.CreateSession)(env, model.as_ptr(), options, &mut session))?;
            let (arena, default) =
                (ort_sys::OrtAllocatorType::OrtArenaAllocator, ort_sys::OrtMemType::OrtMemTypeDefault);
            check((api.CreateCpuMemoryInfo)(arena, default, &mut memory))?;
        }

        let mut inputs = Vec::new();
        for Input { tensor, .. } in &tensors {
            let (shape, bytes) = (extents(tensor.shape()), tensor.bytes());
            let mut value = null_mut();
            // SAFETY: `tensor` outlives the value, and an input is never written.
            check(unsafe {
                (api.CreateTensorWithDataAsOrtValue)(
                    memory,
                    bytes.as_ptr().cast_mut().cast(),
                    bytes.len(),
                    shape.as_ptr(),
                    shape.len(),
                    element_type(tensor.dtype())?,
                    &mut value,
                )
            })?;
            inputs.push(value.cast_const());
        }
        let names: Vec<CString> = tensors
            .iter()
            .map(|i| i.name.as_str())
            .chain(job.outputs.iter().map(String::as_str))
            .map(CString::new)
            .collect::<std::result::Result<_, _>>()?;
        let (input_names, output_names) = names.split_at(tensors.len());
        Ok(OnnxRuntime {
            api,
            session,
            input_names: input_names.iter().map(|n| n.as_ptr()).collect(),
            output_names: output_names.iter().map(|n| n.as_ptr()).collect(),
            inputs,
            outputs: vec![null_mut(); job.outputs.len()],
            _names: names,
            _tensors: tensors,
        })
    }
}

impl System for OnnxRuntime {
    fn run(&mut self) -> Result<()> {
        // SAFETY: all arrays are as long as said, and their values live.
        check(self.api, unsafe {
            (self.api.Run)(
                self.session,
                null(),
                self.input_names.as_ptr(),
                self.inputs.as_ptr(),
                self.inputs.len(),
                self.output_names.as_ptr(),
                self.output_names.len(),
                self.outputs.as_mut_ptr(),
            )
        })
    }

    fn output(&mut self, number: usize) -> Result<Tensor> {
        let value = *self.outputs.get(number).ok_or("there is no such output")?;
        let (mut info, mut rank, mut data) = (null_mut(), 0, null_mut());
        let mut ty = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        // SAFETY: `value` is a tensor that the last run wrote; the shape has room for its rank, and
        // the bytes are as many as type and shape say.
        unsafe {
            check(self.api, (self.api.GetTensorTypeAndShape)(value, &mut info))?;
            check(self.api, (self.api.GetDimensionsCount)(info, &mut rank))?;
            let mut shape = vec![0i64; rank];
            check(self.api, (self.api.GetDimensions)(info, shape.as_mut_ptr(), rank))?;
            check(self.api, (self.api.GetTensorElementType)(info, &mut ty))?;
            (self.api.ReleaseTensorTypeAndShapeInfo)(info);
            check(self.api, (self.api.GetTensorMutableData)(value, &mut data))?;
            let dtype = DType::from_abi(ty as u32).ok_or("an output of this type is not known")?;
            let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
            let bytes = shape.iter().product::<usize>() * dtype.bytes();
            Ok(Tensor::from_bytes(
                dtype,
                &shape,
                std::slice::from_raw_parts(data.cast_const().cast(), bytes),
            )?)
        }
    }
}

fn check(api: &OrtApi, status: OrtStatusPtr) -> Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: a status that is not null has a message, and is released once.
    unsafe {
        let message = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api.ReleaseStatus)(status.0);
        Err(format!("ONNX Runtime: {message}").into())
    }
}

fn extents(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|d| *d as i64).collect()
}

fn element_type(dtype: DType) -> Result<ONNXTensorElementDataType> {
    use ONNXTensorElementDataType as T;
    Ok(match dtype {
        DType::F32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DType::F64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DType::I64 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DType::I32 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DType::U8 => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DType::Bool => T::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        other => return Err(format!("inputs of {other} are not supported").into()),
    })
}
