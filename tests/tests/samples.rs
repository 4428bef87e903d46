//! The samples of every op row in text form: they parse, verify, print, and read back the same.

use burin_ir::graph::{self, Graph, sample::Sample};
use burin_ir::ops;

/// What is wrong with a graph's text form, if anything is.
fn round_trip(g: &Graph) -> Result<(), String> {
    graph::verify(g)?;
    let printed = g.to_string();
    let again = graph::parse(&printed).map_err(|e| format!("{e}\n{printed}"))?;
    graph::verify(&again)?;
    if again.to_string() == printed { Ok(()) } else { Err(format!("{printed}printed again, it is\n{again}")) }
}

#[test]
fn samples_round_trip() {
    let mut failures = String::new();
    let mut count = 0;
    for row in ops::all() {
        for text in row.samples {
            count += 1;
            let checked = Sample::parse(text).map_err(|e| e.to_string()).and_then(|s| {
                round_trip(&s.graph()?)?;
                // Some ops need a size to be known; what can be built must hold.
                s.symbolic_graph().map_or(Ok(()), |(g, _)| round_trip(&g))
            });
            if let Err(e) = checked {
                failures += &format!("{text}\n  {e}\n");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count > 50, "found {count} samples only");
}
