//! rten, with its weights packed when the model is loaded. It has 32-bit integers only.

use super::System;
use crate::{Input, Job, Result};
use burin_runtime::DType;
use burin_runtime::Tensor as Plain;
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueView};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;
use std::sync::Arc;

pub(super) struct Rten {
    model: Model,
    inputs: Vec<(NodeId, Value)>,
    outputs: Vec<NodeId>,
    options: RunOptions,
    results: Vec<Value>,
}

impl Rten {
    pub(super) fn load(job: &Job, inputs: Vec<Input>) -> Result<Rten> {
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(&job.model)?;
        let inputs = inputs.iter().map(|i| Ok((model.node_id(&i.name)?, value(&i.tensor)?)));
        let inputs = inputs.collect::<Result<_>>()?;
        let outputs = job.outputs.iter().map(|name| Ok(model.node_id(name)?)).collect::<Result<_>>()?;
        let pool = Arc::new(ThreadPool::with_num_threads(job.threads));
        let options = RunOptions::default().with_thread_pool(Some(pool));
        Ok(Rten { model, inputs, outputs, options, results: Vec::new() })
    }
}

impl System for Rten {
    fn run(&mut self) -> Result<()> {
        let inputs = self.inputs.iter().map(|(id, v)| (*id, ValueView::from(v).into())).collect();
        self.results = self.model.run(inputs, &self.outputs, Some(self.options.clone()))?;
        Ok(())
    }

    fn output(&mut self, number: usize) -> Result<Plain> {
        Ok(match self.results.get(number) {
            Some(Value::FloatTensor(t)) => Plain::new(t.shape(), &t.to_vec())?,
            Some(Value::Int32Tensor(t)) => Plain::new(t.shape(), &t.to_vec())?,
            _ => return Err("an output of this type is not known".into()),
        })
    }
}

fn value(t: &Plain) -> Result<Value> {
    Ok(match t.dtype() {
        DType::F32 => Tensor::from_data(t.shape(), t.as_slice::<f32>().unwrap_or(&[]).to_vec()).into(),
        DType::I64 | DType::I32 | DType::Bool => {
            let values: Vec<i32> = t.view().to_f64s().map(|v| v as i32).collect();
            Tensor::from_data(t.shape(), values).into()
        }
        other => return Err(format!("inputs of {other} are not supported").into()),
    })
}
