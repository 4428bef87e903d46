//! ONNX's protobuf messages, by hand: the fields that the importer reads, with the numbers of
//! `onnx.proto`. Fields that are not listed (documentation, metadata, training information) are
//! skipped when a file is decoded.
//!
//! Large byte fields are [`Bytes`], so that decoding from a mapped file copies no weights.

use bytes::Bytes;
use prost::{Message, Oneof};
use std::collections::HashSet;

/// A whole model file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// The version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The version of each domain's ops.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Functions that nodes may call.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// The version of a domain's ops.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// The domain; empty for `ai.onnx`.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A graph, or the body of a control-flow op.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// The name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Sparse constants.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Inputs with their types.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

impl GraphProto {
    /// The inputs that a caller gives: before version 4 of the format, constants are listed too.
    pub fn given(&self) -> impl Iterator<Item = &ValueInfoProto> {
        let constants: HashSet<&str> = self.initializer.iter().map(|t| t.name.as_str()).collect();
        self.input.iter().filter(move |i| !constants.contains(i.name.as_str()))
    }
}

/// A function that is inlined where it is called.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The names of its inputs.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// The names of its outputs.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// The attributes without a default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// The attributes with a default.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// Its nodes.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// The op versions that its nodes are written for.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Its domain.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Distinguishes functions of one name.
    #[prost(string, tag = "13")]
    pub overload: String,
}

/// A node.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// The names of its operands; empty where an optional one is absent.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// The names of its results; empty where one is not wanted.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The op.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// The op's domain.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Which of the functions of that name it calls.
    #[prost(string, tag = "8")]
    pub overload: String,
    /// The attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

/// A named attribute; `kind` says which field holds it.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// In a function: the caller's attribute that stands here.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    /// One of [`attribute_type`].
    #[prost(int32, tag = "20")]
    pub kind: i32,
    /// A float.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// A string.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// A graph.
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    /// A sparse tensor.
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    /// Floats.
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// A type.
    #[prost(message, optional, tag = "14")]
    pub tp: Option<TypeProto>,
}

/// The values of [`AttributeProto::kind`] that the importer reads.
#[allow(missing_docs)]
pub mod attribute_type {
    pub const UNDEFINED: i32 = 0;
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const GRAPH: i32 = 5;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
    pub const SPARSE_TENSOR: i32 = 11;
    pub const TYPE: i32 = 13;
}

/// A name with a type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// The type.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 7, 8, 9")]
    pub value: Option<TypeValue>,
}

/// The type of a map.
#[derive(Clone, PartialEq, Message)]
pub struct MapTypeProto {
    /// The element type of keys.
    #[prost(int32, tag = "1")]
    pub key_type: i32,
    /// The type of values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// The forms of a [`TypeProto`].
#[derive(Clone, PartialEq, Oneof)]
pub enum TypeValue {
    /// A tensor.
    #[prost(message, tag = "1")]
    Tensor(TensorTypeProto),
    /// A sequence.
    #[prost(message, tag = "4")]
    Sequence(Box<ElementTypeProto>),
    /// A map: a [`MapTypeProto`], which only inputs need.
    #[prost(bytes = "bytes", tag = "5")]
    Map(Bytes),
    /// An opaque type; not supported.
    #[prost(bytes = "bytes", tag = "7")]
    Opaque(Bytes),
    /// A sparse tensor; not supported.
    #[prost(bytes = "bytes", tag = "8")]
    SparseTensor(Bytes),
    /// An optional.
    #[prost(message, tag = "9")]
    Optional(Box<ElementTypeProto>),
}

/// The type of a sequence's or an optional's element.
#[derive(Clone, PartialEq, Message)]
pub struct ElementTypeProto {
    /// The type.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// A tensor's type.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// The element type's number.
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// The shape; absent where even the rank is unknown.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// The dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

impl TensorShapeProto {
    /// The sizes, where all of them are numbers.
    pub fn sizes(&self) -> Option<Vec<i64>> {
        let size = |d: &DimensionProto| match d.value {
            Some(DimensionValue::Value(n)) => Some(n),
            _ => None,
        };
        self.dim.iter().map(size).collect()
    }
}

/// A dimension.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// Its size; absent where unknown.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
}

/// A dimension's size.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    /// A number.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// A name.
    #[prost(string, tag = "2")]
    Param(String),
}

/// A constant tensor; the elements stand in one of the data fields or in another file.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// The shape.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// The element type's number.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Elements of f32 (and of complex64, in pairs).
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of the integers up to 32 bits, of bool and of the 16-bit floats' bits.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements that are strings.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// Elements of i64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// The name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// All elements' bytes, little-endian.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// Elements of f64.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of u32 and u64.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Where the elements are, when they are in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1: the elements are in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A sparse constant.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    /// The elements that are not zero; its name is the constant's.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Their positions: linear (`[n]`) or a row of coordinates each (`[n, rank]`).
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// The shape.
    #[prost(int64, repeated, tag = "3")]
    pub dims: Vec<i64>,
}

/// A key with a value.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Recorded contents of a sequence.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceProto {
    /// What its elements are, one of [`element_kind`].
    #[prost(int32, tag = "2")]
    pub elem_type: i32,
    /// Its elements, where they are tensors.
    #[prost(message, repeated, tag = "3")]
    pub tensor_values: Vec<TensorProto>,
    /// Its elements, where they are maps.
    #[prost(message, repeated, tag = "6")]
    pub map_values: Vec<MapProto>,
}

/// Recorded contents of a map: keys of either kind, and a value for each.
#[derive(Clone, PartialEq, Message)]
pub struct MapProto {
    /// Keys that are integers.
    #[prost(int64, repeated, tag = "3")]
    pub keys: Vec<i64>,
    /// Keys that are strings.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub string_keys: Vec<Bytes>,
    /// The values.
    #[prost(message, optional, tag = "5")]
    pub values: Option<SequenceProto>,
}

/// Recorded contents of an optional; neither field is set where it is absent.
#[derive(Clone, PartialEq, Message)]
pub struct OptionalProto {
    /// What it holds, one of [`element_kind`].
    #[prost(int32, tag = "2")]
    pub elem_type: i32,
    /// A tensor.
    #[prost(message, optional, tag = "3")]
    pub tensor_value: Option<TensorProto>,
    /// A sequence.
    #[prost(message, optional, tag = "5")]
    pub sequence_value: Option<SequenceProto>,
}

/// What sequences and optionals hold, of what is read.
#[allow(missing_docs)]
pub mod element_kind {
    pub const UNDEFINED: i32 = 0;
    pub const TENSOR: i32 = 1;
    pub const SEQUENCE: i32 = 3;
    pub const MAP: i32 = 4;
}
