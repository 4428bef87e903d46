//! What file tests can run: `parse-print` and `verify` on either language, every pass, the emitter for
//! wide vectors at a CPU level, and native code beside the evaluator.

use crate::agree::{Program as Run, Verdict};
use crate::disassembly;
use crate::files::Runner;
use crate::native;
use burin_compiler::graph::Fuel;
use burin_compiler::pipeline::{self, KERNEL_PASSES};
use burin_ir::graph::{self, Graph};
use burin_ir::loops::{self, Kernel};

/// A program of either language.
enum Program {
    Graph(Graph),
    Kernel(Kernel),
}

impl Program {
    /// Parses what the first word of the text (comments apart) says it is.
    fn parse(text: &str) -> Result<Program, String> {
        let is_kernel = text.lines().find(|l| !l.starts_with('#')).is_some_and(|l| l.starts_with("kernel"));
        if is_kernel {
            loops::parse(text).map(Program::Kernel).map_err(|e| e.to_string())
        } else {
            graph::parse(text).map(Program::Graph).map_err(|e| e.to_string())
        }
    }

    fn verify(&self) -> Result<(), String> {
        match self {
            Program::Graph(g) => graph::verify(g),
            Program::Kernel(k) => loops::verify(k),
        }
    }

    fn print(&self) -> String {
        match self {
            Program::Graph(g) => g.to_string(),
            Program::Kernel(k) => k.to_string(),
        }
    }
}

/// The runner that a header names.
pub fn find(key: &str, name: &str) -> Option<Runner> {
    match (key, name) {
        ("test", "parse-print") => Some(Box::new(|text| {
            let printed = Program::parse(text)?.print();
            let again = Program::parse(&printed)?.print();
            if again == printed { Ok(printed) } else { Err(format!("printed again, it is\n{again}")) }
        })),
        ("test", "verify") => {
            Some(Box::new(|text| Program::parse(text)?.verify().map(|()| "verified\n".to_owned())))
        }
        ("pass", name) => graph_pass(name).or_else(|| kernel_pass(name)),
        ("native", header) => {
            let header = header.to_owned();
            Some(Box::new(move |text| {
                let verdict = Run::parse(&header, text)?.check(&native::levels())?;
                let answer = match verdict {
                    Verdict::Agree => "agrees",
                    Verdict::Nothing => "nothing to compare",
                    Verdict::Refused => "refused",
                };
                Ok(answer.to_owned())
            }))
        }
        ("wide", level) => {
            let level = level.to_owned();
            Some(Box::new(move |text| disassembly::of_kernel(text, &level)))
        }
        _ => None,
    }
}

fn graph_pass(name: &str) -> Option<Runner> {
    let run = pipeline::graph_passes().find(|p| p.name == name)?.run;
    Some(Box::new(move |text| {
        let mut g = graph::parse(text).map_err(|e| e.to_string())?;
        graph::verify(&g)?;
        run(&mut g, &mut Fuel::unlimited())?;
        graph::verify(&g).map_err(|e| format!("after the pass: {e}\n{g}"))?;
        Ok(g.to_string())
    }))
}

fn kernel_pass(name: &str) -> Option<Runner> {
    let run = KERNEL_PASSES.iter().find(|p| p.name == name)?.run;
    Some(Box::new(move |text| {
        let mut k = loops::parse(text).map_err(|e| e.to_string())?;
        loops::verify(&k)?;
        run(&mut k);
        loops::verify(&k).map_err(|e| format!("after the pass: {e}\n{k}"))?;
        Ok(k.to_string())
    }))
}
