//! What is told and written of a difference: the smallest graph that shows it, with its inputs.

use super::Args;
use super::cut::{WEIGHTS, text};
use super::search::Difference;
use crate::failure::Failure;
use crate::inputs::{file_name, write};
use crate::model;
use std::path::{Path, PathBuf};

/// Writes the graph that shows a difference, with its inputs, and says what differs.
pub(super) fn show(d: &Difference, args: &Args) -> Result<String, Failure> {
    let default = || PathBuf::from(format!("{}-diff.burin", model::title(&args.model)));
    let path = args.out.clone().unwrap_or_else(default);
    let folder = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().map_or("diff".into(), |s| s.to_string_lossy().into_owned());
    let fail = |p: &Path, e: std::io::Error| Failure::Input(format!("{}: {e}", p.display()));
    let mut weights = Vec::new();
    let mut graph = text(&d.cut.graph, &mut weights);
    if !weights.is_empty() {
        let name = format!("{stem}.weights");
        graph = graph.replace(&format!("file \"{WEIGHTS}\""), &format!("file \"{name}\""));
        let file = folder.join(name);
        std::fs::write(&file, &weights).map_err(|e| fail(&file, e))?;
    }
    std::fs::write(&path, format!("# {}\n{graph}", d.what)).map_err(|e| fail(&path, e))?;
    let mut again = format!("burin diff {}", path.display());
    for (v, t) in d.cut.graph.inputs().iter().zip(&d.cut.inputs) {
        let name = &d.cut.graph.values[*v].name;
        let file = write(folder, &file_name(&format!("{stem}.{name}")), t)?;
        again.push_str(&format!(" --input {name}={}", file.display()));
    }
    Ok(format!(
        "{} differs by up to {} ULPs, {:e} absolute\n  result {}: {}\n  graph:  {}\n  again:  {again}\n",
        d.what,
        d.report.worst_ulps,
        d.report.worst_abs,
        d.result,
        d.report,
        path.display()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{cut::Cut, nodes};
    use super::*;
    use crate::backend::{Backend, Runner};
    use crate::inputs::Inputs;
    use burin_ir::Tensor;
    use burin_ir::graph::{self, eval::eval_with};

    #[test]
    fn what_is_written_shows_the_node_again() {
        let folder = tempfile::tempdir().unwrap();
        let index: Vec<String> = (0..300).map(|i| (i % 4).to_string()).collect();
        let text = format!(
            "graph @g(%x: f32[4]) {{\n  %i = const i64[300] [{}]\n  %y = Gather(%x, %i) \"pick\"\n  return %y\n}}",
            index.join(", ")
        );
        let of = graph::parse(&text).unwrap();
        let x = Tensor::new(&[4], &[1f32, 2.0, 3.0, 4.0]);
        let mut difference = None;
        let outputs = eval_with(&of, &[x], &[], &mut |event| {
            // A compiled node that gives zeros.
            let run = &mut |_: &Cut| {
                let zeros = |t: &Tensor| Tensor::zeros(t.dtype(), t.shape());
                Ok(event.outputs.iter().map(zeros).collect())
            };
            difference = nodes::look(&of, event, run).unwrap();
        })
        .unwrap();
        let out = folder.path().join("shown.burin");
        let args = Args {
            model: "g.burin".into(),
            inputs: vec![],
            seed: 1,
            dims: vec![],
            stated: model::Stated::default(),
            out: Some(out.clone()),
        };
        let said = show(&difference.unwrap(), &args).unwrap();
        assert!(said.starts_with("Gather \"pick\" differs by up to "), "{said}");
        let again = model::load(&out, &[], &model::Stated::default()).unwrap();
        let input = folder.path().join("shown.x0.npy");
        let inputs = Inputs::new(&again, &[("x0".to_owned(), input)], &[], 1).unwrap();
        let mut runner = Runner::new(again, Backend::Interp, 1).unwrap();
        assert_eq!(runner.run(&inputs.tensors, &inputs.dims, None).unwrap(), outputs.outputs);
    }
}
