//! `docs/ops.md` says what the op rows say. `BLESS=1` writes it.
//!
//! A row says which element types it takes in its type rule alone, so that the rule is asked: each
//! sample with every type in place of each of its operands' types, of all operands that have the same
//! one and of each operand by itself.

use burin_compiler::import::onnx::{RESOLVED, rewritten_below};
use burin_ir::attr::AttrKind;
use burin_ir::graph::sample::Sample;
use burin_ir::ops::{self, Effect, OpRow, Tolerance};
use burin_ir::{Attr, DType};
use burin_tests::list::blessing;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// What stands above the table.
const HEAD: &str = "\
# The ops

Made from the op rows by `BLESS=1 cargo test -p burin-tests --test docs`; a test holds it fresh.

- **Version**: the first opset version of the domain whose schema is the row's. Models of older versions
  are read as well: where the schema was another, nodes are rewritten below the versions in brackets.
- **Types**: what each operand may hold, and what an attribute that names a type may name. *Floats* are
  {floats}; *integers* {integers}; *numbers* both; *narrow* types, which are only moved and converted,
  {narrow}; *any* means all of them, {bool} and `text`.
- **Runs**: *compiled* ops become loops of the model's own code; *called* ones call the host-op library.
- **Off by**: how far compiled code may be from the interpreter, which computes in `f64` and rounds once:
  *ULPs* of the result (of 2^-139 where those are less, in `f64` of 2^-1064: factors may be denormal), or a
  multiple of the unit roundoff *u* times the sum of the magnitudes of an element's
  terms, or of the *largest* of all such sums, of the first operand and of those of the result's shape (or 1,
  where that is more). For determinants it is the product of the *rows' lengths*.
";

/// What stands above the ops that have no rows.
const RESOLVED_HEAD: &str = "
## Without rows

Ops over sequences, optionals and maps leave nothing but the nodes of their elements: they are resolved
while a model is imported, for which lengths, positions and presence have to be known. Identity, If and Loop
go over such values as well. Elements are tensors. Gradient leaves the nodes of the derivative.

";

/// The types that each operand, or attribute that names a type, may have.
type Types = BTreeMap<(usize, String), BTreeSet<DType>>;

fn accepts(sample: &Sample) -> bool {
    sample.graph().is_ok()
}

fn types(row: &OpRow) -> Types {
    let mut types = Types::new();
    for sample in row.samples.iter().filter_map(|text| Sample::parse(text).ok()) {
        let operands = sample.inputs.iter().map(|i| i.as_ref().map(|i| i.dtype()));
        let port = |i: usize| i.min(row.inputs.len().saturating_sub(1));
        let mut note = |i: usize, dtype| {
            let key = (port(i), row.inputs[port(i)].name.to_owned());
            types.entry(key).or_default().insert(dtype);
        };
        for (i, own) in operands.enumerate().filter_map(|(i, t)| Some((i, t?))) {
            note(i, own);
            for dtype in DType::ALL {
                let alike = sample.with_operand_types(&|_, t| if t == own { dtype } else { t });
                let alone = sample.with_operand_types(&|k, t| if k == i { dtype } else { t });
                if accepts(&alike) || accepts(&alone) {
                    note(i, dtype);
                }
            }
        }
        for spec in row.attrs.iter().filter(|a| a.kind == AttrKind::DType) {
            let mut given = sample.clone();
            given.attrs.retain(|(n, _)| n != spec.name);
            for dtype in DType::ALL {
                let mut typed = given.clone();
                typed.attrs.push((spec.name.to_owned(), Attr::DType(dtype)));
                if accepts(&typed) {
                    types.entry((usize::MAX, spec.name.to_owned())).or_default().insert(dtype);
                }
            }
        }
    }
    types
}

fn is_float(t: DType) -> bool {
    t.is_float() && !t.is_storage()
}

fn is_int(t: DType) -> bool {
    t.is_int() && !t.is_storage()
}

/// A set of types by the names of the groups it is made of.
fn shown(set: &BTreeSet<DType>) -> String {
    type Group = (&'static str, fn(DType) -> bool);
    const GROUPS: [Group; 5] = [
        ("any", |_| true),
        ("numbers", |t| is_float(t) || is_int(t)),
        ("floats", is_float),
        ("integers", is_int),
        ("narrow", DType::is_storage),
    ];
    let mut left = set.clone();
    let mut words: Vec<String> = Vec::new();
    for (name, belongs) in GROUPS {
        let group: BTreeSet<DType> = DType::ALL.into_iter().filter(|t| belongs(*t)).collect();
        if group.is_subset(&left) {
            left.retain(|t| !group.contains(t));
            words.push(name.to_owned());
        }
    }
    words.extend(left.iter().map(|t| format!("`{t}`")));
    words.join(" ")
}

/// Operands with the same types stand together.
fn types_column(row: &OpRow) -> String {
    let mut parts: Vec<(Vec<String>, String)> = Vec::new();
    for ((_, name), set) in types(row) {
        let set = shown(&set);
        match parts.iter_mut().find(|(_, s)| *s == set) {
            Some((names, _)) => names.push(name),
            None => parts.push((vec![name], set)),
        }
    }
    let part = |(names, set): &(Vec<String>, String)| format!("{}: {set}", names.join(", "));
    parts.iter().map(part).collect::<Vec<_>>().join("; ")
}

fn version_column(row: &OpRow) -> String {
    let Some((domain, version)) = row.onnx else { return String::new() };
    let below = if domain.is_empty() { rewritten_below(row.name) } else { Vec::new() };
    let below: Vec<String> = below.iter().map(i64::to_string).collect();
    if below.is_empty() { version.to_string() } else { format!("{version} ({})", below.join(", ")) }
}

fn runs_column(row: &OpRow) -> &'static str {
    match row.effect {
        Effect::Host => "called",
        Effect::Pure | Effect::Random => "compiled",
    }
}

fn tolerance_column(row: &OpRow) -> String {
    match row.tolerance {
        Tolerance::Exact => "nothing".to_owned(),
        Tolerance::Ulps(1) => "1 ULP".to_owned(),
        Tolerance::Ulps(n) => format!("{n} ULPs"),
        Tolerance::Sum(c) => format!("{c} u"),
        Tolerance::Largest(c) => format!("{c} u, largest"),
        Tolerance::LargestOrOne(c) => format!("{c} u, largest or 1"),
        Tolerance::RowLengths(c) => format!("{c} u, rows' lengths"),
    }
}

fn page() -> String {
    let listed = |belongs: fn(DType) -> bool| {
        let names: Vec<String> =
            DType::ALL.into_iter().filter(|t| belongs(*t)).map(|t| format!("`{t}`")).collect();
        names.join(", ")
    };
    let mut text = HEAD
        .replace("{floats}", &listed(is_float))
        .replace("{integers}", &listed(is_int))
        .replace("{narrow}", &listed(DType::is_storage))
        .replace("{bool}", &listed(|t| t == DType::Bool));
    let domain = |row: &OpRow| match row.onnx {
        Some(("", _)) => "ai.onnx".to_owned(),
        Some((domain, _)) => domain.to_owned(),
        None => "Burin's own".to_owned(),
    };
    let mut domains: BTreeMap<String, Vec<&OpRow>> = BTreeMap::new();
    ops::all().for_each(|row| domains.entry(domain(row)).or_default().push(row));
    for (domain, mut rows) in domains {
        rows.sort_by_key(|row| row.name);
        let _ = write!(
            text,
            "\n## {domain}\n\n| Op | Version | Types | Runs | Off by |\n|---|---|---|---|---|\n"
        );
        for row in rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                row.name,
                version_column(row),
                types_column(row),
                runs_column(row),
                tolerance_column(row)
            );
        }
    }
    text.push_str(RESOLVED_HEAD);
    for (domain, op) in RESOLVED {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        let _ = writeln!(text, "- {op} ({domain})");
    }
    text
}

#[test]
fn the_page_of_ops_says_what_the_rows_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ops.md");
    let expected = page();
    if blessing() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, &expected).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/ops.md");
    let differs = found.lines().zip(expected.lines()).find(|(f, e)| f != e);
    assert!(
        found == expected,
        "docs/ops.md is not what the op rows say; BLESS=1 writes it anew. First difference: {differs:?}"
    );
}
