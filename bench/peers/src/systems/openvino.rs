//! OpenVINO through its C API, for latency, and held to `f32`: on machines with `bf16` products it
//! would otherwise use them.

use super::System;
use crate::{Input, Job, Result};
use burin_runtime::{DType, Tensor};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

#[repr(C)]
struct Shape {
    rank: i64,
    dims: *mut i64,
}

/// An object of the library.
type Handle = *mut c_void;

/// The functions of the C API that are used, as `openvino/c/*.h` declare them.
struct Api {
    last_error: unsafe extern "C" fn() -> *const c_char,
    core_create: unsafe extern "C" fn(*mut Handle) -> c_int,
    compile: unsafe extern "C" fn(Handle, *const c_char, *const c_char, usize, *mut Handle, ...) -> c_int,
    create_request: unsafe extern "C" fn(Handle, *mut Handle) -> c_int,
    tensor: unsafe extern "C" fn(c_int, Shape, *mut c_void, *mut Handle) -> c_int,
    set_input: unsafe extern "C" fn(Handle, *const c_char, Handle) -> c_int,
    infer: unsafe extern "C" fn(Handle) -> c_int,
    get_output: unsafe extern "C" fn(Handle, usize, *mut Handle) -> c_int,
    tensor_shape: unsafe extern "C" fn(Handle, *mut Shape) -> c_int,
    tensor_type: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    tensor_data: unsafe extern "C" fn(Handle, *mut *mut c_void) -> c_int,
}

impl Api {
    fn load(path: &Path) -> Result<Api> {
        // SAFETY: the library's initialisers are those of OpenVINO. It is never closed.
        let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(path) }?));
        // SAFETY: each function has the type that its header declares.
        unsafe {
            Ok(Api {
                last_error: *library.get(b"ov_get_last_err_msg")?,
                core_create: *library.get(b"ov_core_create")?,
                compile: *library.get(b"ov_core_compile_model_from_file")?,
                create_request: *library.get(b"ov_compiled_model_create_infer_request")?,
                tensor: *library.get(b"ov_tensor_create_from_host_ptr")?,
                set_input: *library.get(b"ov_infer_request_set_tensor")?,
                infer: *library.get(b"ov_infer_request_infer")?,
                get_output: *library.get(b"ov_infer_request_get_output_tensor_by_index")?,
                tensor_shape: *library.get(b"ov_tensor_get_shape")?,
                tensor_type: *library.get(b"ov_tensor_get_element_type")?,
                tensor_data: *library.get(b"ov_tensor_data")?,
            })
        }
    }

    fn check(&self, status: c_int) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the message is null or a string.
        let message = unsafe {
            let text = (self.last_error)();
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Err(format!("OpenVINO: {status} {message}").into())
    }
}

pub(super) struct OpenVino {
    api: Api,
    request: Handle,
    _inputs: Vec<Input>,
}

impl OpenVino {
    pub(super) fn load(job: &Job, library: &Path, inputs: Vec<Input>) -> Result<OpenVino> {
        let api = Api::load(library)?;
        let (mut core, mut compiled, mut request) = (null_mut(), null_mut(), null_mut());
        let model = CString::new(job.model.as_os_str().as_bytes())?;
        let threads = CString::new(job.threads.to_string())?;
        let properties = [
            (c"INFERENCE_NUM_THREADS", threads.as_c_str()),
            (c"PERFORMANCE_HINT", c"LATENCY"),
            (c"INFERENCE_PRECISION_HINT", c"f32"),
        ];
        let [(k0, v0), (k1, v1), (k2, v2)] = properties.map(|(k, v)| (k.as_ptr(), v.as_ptr()));
        // SAFETY: plain calls of the API, with live pointers; what they make lives as long as the program.
        unsafe {
            api.check((api.core_create)(&mut core))?;
            let count = 2 * properties.len();
            let device = c"CPU".as_ptr();
            api.check((api.compile)(
                core,
                model.as_ptr(),
                device,
                count,
                &mut compiled,
                k0,
                v0,
                k1,
                v1,
                k2,
                v2,
            ))?;
            api.check((api.create_request)(compiled, &mut request))?;
        }
        for Input { name, tensor } in &inputs {
            let mut dims: Vec<i64> = tensor.shape().iter().map(|d| *d as i64).collect();
            let shape = Shape { rank: dims.len() as i64, dims: dims.as_mut_ptr() };
            let (data, name) = (tensor.bytes().as_ptr().cast_mut().cast(), CString::new(name.as_str())?);
            let mut handle = null_mut();
            // SAFETY: `tensor` outlives the request, and an input is never written.
            unsafe {
                api.check((api.tensor)(element_type(tensor.dtype())?, shape, data, &mut handle))?;
                api.check((api.set_input)(request, name.as_ptr(), handle))?;
            }
        }
        Ok(OpenVino { api, request, _inputs: inputs })
    }
}

impl System for OpenVino {
    fn run(&mut self) -> Result<()> {
        // SAFETY: the request and the tensors in it are alive.
        self.api.check(unsafe { (self.api.infer)(self.request) })
    }

    fn output(&mut self, number: usize) -> Result<Tensor> {
        let (mut tensor, mut data, mut ty) = (null_mut(), null_mut(), 0);
        let mut shape = Shape { rank: 0, dims: null_mut() };
        // SAFETY: the request has run, so that its outputs have their types, shapes and data.
        unsafe {
            self.api.check((self.api.get_output)(self.request, number, &mut tensor))?;
            self.api.check((self.api.tensor_shape)(tensor, &mut shape))?;
            self.api.check((self.api.tensor_type)(tensor, &mut ty))?;
            self.api.check((self.api.tensor_data)(tensor, &mut data))?;
            let dims = if shape.rank == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(shape.dims, shape.rank as usize)
            };
            let dims: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
            let dtype = TYPES.into_iter().find(|t| t.1 == ty).ok_or("an output of this type is not known")?.0;
            let bytes = dims.iter().product::<usize>() * dtype.bytes();
            let data = if bytes == 0 { null() } else { data.cast_const().cast::<u8>() };
            let data = if data.is_null() { &[] } else { std::slice::from_raw_parts(data, bytes) };
            Ok(Tensor::from_bytes(dtype, &dims, data)?)
        }
    }
}

/// The numbers of `ov_element_type_e`.
const TYPES: [(DType, c_int); 6] =
    [(DType::Bool, 1), (DType::F32, 4), (DType::F64, 5), (DType::I32, 9), (DType::I64, 10), (DType::U8, 16)];

fn element_type(dtype: DType) -> Result<c_int> {
    let found = TYPES.into_iter().find(|t| t.0 == dtype);
    Ok(found.ok_or_else(|| format!("inputs of {dtype} are not supported"))?.1)
}
