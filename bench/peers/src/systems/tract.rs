//! tract, with its threads for matrix products.

use super::System;
use crate::{Input, Job, Result};
use burin_runtime::DType;
use burin_runtime::Tensor as Plain;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

pub(super) struct Tract {
    state: TypedSimpleState,
    inputs: TVec<TValue>,
    outputs: TVec<TValue>,
}

impl Tract {
    pub(super) fn load(job: &Job, inputs: Vec<Input>) -> Result<Tract> {
        if job.threads > 1 {
            set_default_executor(Executor::multithread(job.threads));
        }
        let inputs: TVec<TValue> =
            inputs.iter().map(|i| Ok(tensor(&i.tensor)?.into())).collect::<Result<_>>()?;
        let mut model = tract_onnx::onnx().model_for_path(&job.model)?;
        for (i, t) in inputs.iter().enumerate() {
            model.set_input_fact(i, InferenceFact::dt_shape(t.datum_type(), t.shape()))?;
        }
        let state = model.into_optimized()?.into_runnable()?.spawn()?;
        Ok(Tract { state, inputs, outputs: TVec::new() })
    }
}

impl System for Tract {
    fn run(&mut self) -> Result<()> {
        self.outputs = self.state.run(self.inputs.clone())?;
        Ok(())
    }

    fn output(&mut self, number: usize) -> Result<Plain> {
        let t = self.outputs.get(number).ok_or("there is no such output")?;
        let dtype = TYPES.into_iter().find(|(_, d)| *d == t.datum_type());
        let (dtype, _) = dtype.ok_or("an output of this type is not known")?;
        Ok(Plain::from_bytes(dtype, t.shape(), t.as_bytes())?)
    }
}

const TYPES: [(DType, DatumType); 6] = [
    (DType::F32, DatumType::F32),
    (DType::F64, DatumType::F64),
    (DType::I64, DatumType::I64),
    (DType::I32, DatumType::I32),
    (DType::U8, DatumType::U8),
    (DType::Bool, DatumType::Bool),
];

fn tensor(t: &Plain) -> Result<Tensor> {
    let dtype = TYPES.into_iter().find(|(d, _)| *d == t.dtype());
    let (_, dtype) = dtype.ok_or_else(|| format!("inputs of {} are not supported", t.dtype()))?;
    // SAFETY: the bytes are as many as type and shape say, and any are values of these types.
    Ok(unsafe { Tensor::from_raw_dt(dtype, t.shape(), t.bytes()) }?)
}
