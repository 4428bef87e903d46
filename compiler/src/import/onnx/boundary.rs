//! A model's inputs and outputs: structured ones become tensors of their own.
//!
//! A sequence `x` of two becomes `x.0` and `x.1`, an optional that is there becomes what it holds, and
//! maps become the matrix of their values. How long a sequence among the inputs is, and whether an
//! optional is there, types do not say: the user does, in [`Options`].

use super::body::{Importer, Scope};
use super::inputs::Dimensions;
use super::maps;
use super::proto::{ElementTypeProto, GraphProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto};
use super::structure::{Form, Item, Keys, MAX_LENGTH, Ports, Sequence};
use super::{Options, tensor};
use burin_ir::graph::{Constant, Value};
use burin_ir::{Scalar, Tensor, TensorType};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What is said of the inputs.
pub(super) struct Inputs<'o> {
    options: &'o Options,
    dims: Dimensions<'o>,
    /// The names that options speak of and that were met, with the option.
    used: HashSet<(&'static str, String)>,
    names: HashSet<String>,
    /// The keys of maps that nodes tell, by the maps' names.
    vocabularies: HashMap<String, Keys>,
}

impl<'o> Inputs<'o> {
    pub(super) fn new(options: &'o Options, g: &GraphProto) -> Inputs<'o> {
        let dims = Dimensions::new(&options.dims);
        let maps = g.given().filter(|i| i.r#type.as_ref().is_some_and(maps::is_map)).map(|i| &i.name);
        let told = maps.filter_map(|name| Some((name.clone(), maps::vocabulary(&g.node, name)?)));
        Inputs { options, dims, used: HashSet::new(), names: HashSet::new(), vocabularies: told.collect() }
    }

    /// What an option says of a name.
    fn stated<T: Clone>(&mut self, option: &'static str, all: &[(String, T)], name: &str) -> Option<T> {
        let found = all.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        if found.is_some() {
            self.used.insert((option, name.to_owned()));
        }
        found
    }

    /// Refuses what is said of inputs that there are not.
    pub(super) fn check_stated(&self) -> Result<(), String> {
        self.dims.check_chosen()?;
        let o = self.options;
        let lengths = o.lengths.iter().map(|(n, _)| ("--length", n, "a sequence"));
        let presence = o.present.iter().map(|(n, _)| ("--present", n, "an optional"));
        let shapes = o.shapes.iter().map(|(n, _)| ("--shape", n, "a tensor"));
        let fixed = o.fixed.iter().map(|(n, _)| ("--fix", n, "a tensor"));
        let keys = o.keys.iter().map(|(n, _)| ("--keys", n, "a map"));
        let mut all = lengths.chain(presence).chain(shapes).chain(fixed).chain(keys);
        match all.find(|(option, name, _)| !self.used.contains(&(*option, (*name).clone()))) {
            Some((option, name, kind)) => {
                Err(format!("{option} {name}: the model has no input of that name that is {kind}"))
            }
            None => Ok(()),
        }
    }

    /// The type of the tensor of that name. `of` is the sequence that it is an element of.
    fn tensor(&mut self, name: &str, of: Option<&str>, t: &TensorTypeProto) -> Result<TensorType, String> {
        let options = self.options;
        let shape = self.stated("--shape", &options.shapes, name);
        self.dims.declared(name, of.is_some(), t, shape.as_deref())
    }
}

impl<'m> Importer<'m, '_> {
    /// What an input of the model stands for, and of which tensors it consists.
    pub(super) fn input(
        &mut self,
        i: &'m ValueInfoProto,
        all: &mut Inputs<'_>,
    ) -> Result<(Item, Form), String> {
        let fault = |e: String| format!("input {:?}: {e}", i.name);
        let ty = i.r#type.as_ref().ok_or_else(|| fault("it has no type".to_owned()))?;
        let item = self.input_of(&i.name, ty, all).map_err(fault)?;
        let form = match &item {
            Item::Tensor(v) if self.graph.constant(*v).is_some() => Form::Fixed,
            item => item.form(),
        };
        Ok((item, form))
    }

    fn input_of(&mut self, name: &str, ty: &TypeProto, all: &mut Inputs<'_>) -> Result<Item, String> {
        let options = all.options;
        match &ty.value {
            Some(TypeValue::Tensor(t)) => {
                let ty = all.tensor(name, None, t)?;
                match all.stated("--fix", &options.fixed, name) {
                    Some(contents) => {
                        let contents = fixed(&ty, &contents)?;
                        Ok(Item::Tensor(self.graph.add_constant(name, Constant::Data(contents))))
                    }
                    None => Ok(Item::Tensor(self.add_input(name, ty, all)?)),
                }
            }
            Some(TypeValue::Sequence(of)) => {
                let t = tensor_of(of)?;
                let length = all.stated("--length", &options.lengths, name).ok_or_else(|| {
                    format!(
                        "it is a sequence, whose length must be known when compiling: give --length {name}=N"
                    )
                })?;
                let length = usize::try_from(length).ok().filter(|n| *n <= MAX_LENGTH);
                let length = length.ok_or_else(|| format!("its length must be from 0 to {MAX_LENGTH}"))?;
                let element = |i| {
                    let own = format!("{name}.{i}");
                    let ty = all.tensor(&own, Some(name), t)?;
                    self.add_input(&own, ty, all)
                };
                let elements = (0..length).map(element).collect::<Result<_, String>>()?;
                Ok(Item::Sequence(Sequence { dtype: tensor::dtype(t.elem_type.into())?, elements }))
            }
            Some(TypeValue::Optional(of)) => {
                let there = all.stated("--present", &options.present, name).ok_or_else(|| {
                    format!(
                        "it is an optional, and whether it is there must be known when compiling: \
                             give --present {name}=1, or 0"
                    )
                })?;
                let of = of.elem_type.as_deref().ok_or("the type of what it holds is missing")?;
                let held = there.then(|| self.input_of(name, of, all)).transpose()?;
                Ok(Item::Optional(held.map(Box::new)))
            }
            Some(TypeValue::Map(declared)) => {
                let stated = all.stated("--keys", &options.keys, name);
                let keys = stated.or_else(|| all.vocabularies.get(name).cloned()).ok_or_else(|| {
                    format!("it is a map, whose keys must be known when compiling: give --keys {name}=A,B,..")
                })?;
                let v = self.add_input(name, maps::row_type(declared, &keys)?, all)?;
                Ok(Item::Maps(Arc::new(keys), v))
            }
            Some(TypeValue::SparseTensor(_)) => Err("sparse tensors are not supported".into()),
            Some(TypeValue::Opaque(_)) => Err("opaque types are not supported".into()),
            None => Err("it has no type".into()),
        }
    }

    fn add_input(&mut self, name: &str, ty: TensorType, all: &mut Inputs<'_>) -> Result<Value, String> {
        match all.names.insert(name.to_owned()) {
            true => Ok(self.graph.add_input(name, ty)),
            false => Err(format!("two of the model's inputs become tensors named {name:?}")),
        }
    }

    /// Adds the model's outputs; gives of which tensors each consists.
    pub(super) fn outputs(&mut self, outputs: &[ValueInfoProto], scope: &Scope<'_>) -> Result<Ports, String> {
        let mut forms = Vec::new();
        let mut names = HashSet::new();
        for o in outputs {
            let item = scope.get(&o.name).map_err(|e| format!("output {e}"))?;
            let form = item.form();
            for (i, v) in item.leaves().iter().enumerate() {
                let name = if matches!(form, Form::Sequence(_)) {
                    format!("{}.{i}", o.name)
                } else {
                    o.name.clone()
                };
                if !names.insert(name.clone()) {
                    return Err(format!("two of the model's outputs become tensors named {name:?}"));
                }
                self.graph.add_output(&name, *v);
            }
            forms.push((o.name.clone(), form));
        }
        match names.is_empty() {
            true => Err("the graph has no outputs, or none that is there".into()),
            false => Ok(forms),
        }
    }
}

fn tensor_of(of: &ElementTypeProto) -> Result<&TensorTypeProto, String> {
    match of.elem_type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(t)) => Ok(t),
        Some(_) => Err("it is a sequence of what is no tensor, which is not supported as an input".into()),
        None => Err("its element type is missing".into()),
    }
}

/// The tensor of that type and those contents.
fn fixed(ty: &TensorType, contents: &[i64]) -> Result<Tensor, String> {
    if !ty.dtype.is_whole() {
        return Err(format!("it is {ty}; only contents of integers and bools can be fixed"));
    }
    let shape = match ty.shape.as_slice() {
        // A vector of open length is as long as what is given.
        [d] if d.as_const().is_none() => Some(vec![contents.len()]),
        _ => ty.static_shape().filter(|s| s.iter().product::<usize>() == contents.len()),
    };
    let shape = shape.ok_or_else(|| format!("it is {ty}, found {} elements for it", contents.len()))?;
    Ok(Tensor::from_scalars(ty.dtype, &shape, contents.iter().map(|v| Scalar::I(*v))))
}
