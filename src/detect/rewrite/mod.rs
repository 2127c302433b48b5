//! Makes an image model that was exported for one size usable at every size: a rewrite of its ONNX protobuf.
//!
//! Some exporters leave a dummy batch and picture size in the graph's declarations and list every weight among the
//! graph's inputs. ONNX Runtime then refuses other sizes, warns once for each weight, and folds no constants, although
//! the operators themselves (convolutions, activations, additions) take any size. Only declarations are touched here:
//! all that this file does not name is carried over byte for byte, so the result is the same on every machine.
//!
//! Field numbers are those of `onnx/onnx.proto` (<https://github.com/onnx/onnx>).

mod wire;

use std::collections::HashSet;

use wire::{Field, Value, embedded, fields, map_embedded, name_of, put_bytes, put_varint_field};

/// Why a model could not be rewritten. The bytes given are never at risk: the result is a new model or nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The bytes are no protobuf message of an ONNX model, or a damaged one.
    #[error("this is no ONNX model, or a damaged one: {0}")]
    Malformed(&'static str),
    /// A readable model of another kind than this rewrite is for.
    #[error("the model is of another kind: expected {expected}, found {found}")]
    OtherKind {
        /// What the rewrite is for.
        expected: &'static str,
        /// What the graph declares.
        found: String,
    },
}

type Result<T> = std::result::Result<T, RewriteError>;

/// The oldest IR version in which a weight need not stand among the graph's inputs (ONNX `IR.md`, version 4).
const IR_VERSION_WITH_PRIVATE_WEIGHTS: u64 = 4;
/// Names at most this long, and lists of at most this many, are repeated in an error.
const NAME_SHOWN: usize = 40;
const NAMES_SHOWN: usize = 4;

mod model {
    pub const IR_VERSION: u64 = 1;
    pub const GRAPH: u64 = 7;
    pub const OPSET_IMPORT: u64 = 8;
}
mod graph {
    pub const NODE: u64 = 1;
    pub const INITIALIZER: u64 = 5;
    pub const INPUT: u64 = 11;
    pub const OUTPUT: u64 = 12;
    pub const VALUE_INFO: u64 = 13;
    pub const QUANTIZATION_ANNOTATION: u64 = 14;
    pub const SPARSE_INITIALIZER: u64 = 15;
}
mod node {
    pub const INPUT: u64 = 1;
    pub const ATTRIBUTE: u64 = 5;
    pub const ATTRIBUTE_GRAPH: u64 = 6;
    pub const ATTRIBUTE_GRAPHS: u64 = 11;
}
mod tensor {
    pub const NAME: u64 = 8;
    pub const SPARSE_VALUES: u64 = 1;
}
mod value {
    pub const NAME: u64 = 1;
    pub const TYPE: u64 = 2;
    pub const TYPE_TENSOR: u64 = 1;
    pub const TENSOR_SHAPE: u64 = 2;
    pub const SHAPE_DIM: u64 = 1;
    pub const DIM_VALUE: u64 = 1;
    pub const DIM_PARAM: u64 = 2;
}

/// Rewrites the declarations of an ONNX model whose one input is a batch of pictures `[N, C, H, W]` and whose outputs
/// are maps over the picture, also rank 4.
///
/// In the result the batch is 1; height and width of the input are the symbols `height` and `width`; those of the
/// outputs are unknown until a run; weights are no longer inputs, and those that nothing reads (counters of the
/// training) are gone, as are the shapes of inner values, which were declared for the old size. Channels, element types
/// and all operators stay. Rewriting a rewritten model changes nothing.
///
/// Whether the operators take any size is not looked at (a `Reshape` to constants would not): a run tells.
///
/// # Errors
/// [`RewriteError::Malformed`] for bytes that are no whole ONNX model; [`RewriteError::OtherKind`] for a model with
/// another number of inputs or other ranks.
pub fn make_usable(model: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(model.len().saturating_add(64));
    let (mut graphs, mut versions, mut opsets) = (0, 0, 0);
    for field in fields(model) {
        let field = field?;
        match (field.number, field.value) {
            (model::GRAPH, Value::Bytes(graph)) => {
                graphs += 1;
                put_bytes(&mut out, model::GRAPH, &rewrite_graph(graph)?);
            }
            (model::IR_VERSION, Value::Varint(version)) => {
                versions += 1;
                put_varint_field(&mut out, model::IR_VERSION, version.max(IR_VERSION_WITH_PRIVATE_WEIGHTS));
            }
            (number, _) => {
                opsets += usize::from(number == model::OPSET_IMPORT);
                out.extend_from_slice(field.raw);
            }
        }
    }
    match (graphs, versions, opsets) {
        (1, 1, 1..) => Ok(out),
        (1, 1, 0) => Err(RewriteError::Malformed("it names no operator set")),
        (1, ..) => Err(RewriteError::Malformed("it has no IR version, or several")),
        _ => Err(RewriteError::Malformed("it has no graph, or several")),
    }
}

fn rewrite_graph(graph: &[u8]) -> Result<Vec<u8>> {
    let weights = weight_names(graph)?;
    let used = names_read(graph)?;
    let is_read = |name| used.as_ref().is_none_or(|used| used.contains(name));
    let mut out = Vec::with_capacity(graph.len().saturating_add(64));
    let mut inputs = Vec::new();
    for field in fields(graph) {
        let field = field?;
        match (field.number, field.value) {
            (graph::INPUT, Value::Bytes(input)) => {
                if !weights.contains(name_of(input, value::NAME)?) {
                    inputs.push(input);
                    put_bytes(&mut out, graph::INPUT, &free_sides(input, Some(["height", "width"]))?);
                }
            }
            (graph::OUTPUT, Value::Bytes(output)) => put_bytes(&mut out, graph::OUTPUT, &free_sides(output, None)?),
            (graph::INITIALIZER, Value::Bytes(weight)) if !is_read(name_of(weight, tensor::NAME)?) => {}
            (graph::VALUE_INFO, _) => {}
            _ => out.extend_from_slice(field.raw),
        }
    }
    if inputs.len() == 1 {
        return Ok(out);
    }
    let mut names: Vec<_> = inputs.iter().take(NAMES_SHOWN).map(|input| describe(input)).collect();
    if inputs.len() > NAMES_SHOWN {
        names.push(format!("and {} more", inputs.len() - NAMES_SHOWN));
    }
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(RewriteError::OtherKind { expected: "one input beside the weights", found })
}

fn weight_names(graph: &[u8]) -> Result<HashSet<&[u8]>> {
    let mut names = HashSet::new();
    for field in fields(graph) {
        let field = field?;
        match (field.number, field.value) {
            (graph::INITIALIZER, Value::Bytes(weight)) => {
                names.insert(name_of(weight, tensor::NAME)?);
            }
            (graph::SPARSE_INITIALIZER, Value::Bytes(sparse)) => {
                for part in embedded(sparse, tensor::SPARSE_VALUES) {
                    names.insert(name_of(part?, tensor::NAME)?);
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// The names that nodes or the graph's outputs read; `None` where inner graphs or annotations may read more than can
/// be seen here.
fn names_read(graph: &[u8]) -> Result<Option<HashSet<&[u8]>>> {
    let mut names = HashSet::new();
    for field in fields(graph) {
        let field = field?;
        match (field.number, field.value) {
            (graph::NODE, Value::Bytes(node)) => {
                for part in fields(node) {
                    let part = part?;
                    match (part.number, part.value) {
                        (node::INPUT, Value::Bytes(name)) => {
                            names.insert(name);
                        }
                        (node::ATTRIBUTE, Value::Bytes(attribute)) if holds_graph(attribute)? => return Ok(None),
                        _ => {}
                    }
                }
            }
            (graph::OUTPUT, Value::Bytes(output)) => {
                names.insert(name_of(output, value::NAME)?);
            }
            (graph::QUANTIZATION_ANNOTATION, _) => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(names))
}

fn holds_graph(attribute: &[u8]) -> Result<bool> {
    for field in fields(attribute) {
        if matches!(field?.number, node::ATTRIBUTE_GRAPH | node::ATTRIBUTE_GRAPHS) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A `ValueInfoProto` with batch 1 and its last two dimensions named by `symbols`, or left unknown.
fn free_sides(info: &[u8], symbols: Option<[&str; 2]>) -> Result<Vec<u8>> {
    let mut shapes = 0;
    let mut rank = 0;
    let rewritten = map_embedded(info, value::TYPE, &mut |ty| {
        map_embedded(ty, value::TYPE_TENSOR, &mut |tensor| {
            map_embedded(tensor, value::TENSOR_SHAPE, &mut |shape| {
                shapes += 1;
                map_embedded(shape, value::SHAPE_DIM, &mut |dim| {
                    rank += 1;
                    let symbol = |which: usize| symbols.and_then(|names| names.get(which).copied());
                    match rank {
                        1 => with_size(dim, Some(1), None),
                        3 => with_size(dim, None, symbol(0)),
                        4 => with_size(dim, None, symbol(1)),
                        _ => Ok(dim.to_vec()),
                    }
                })
            })
        })
    })?;
    if (shapes, rank) == (1, 4) {
        Ok(rewritten)
    } else {
        Err(RewriteError::OtherKind { expected: "tensors of the shape [N, C, H, W]", found: describe(info) })
    }
}

/// A dimension with another size; its denotation, and what else it may have, stays.
fn with_size(dim: &[u8], size: Option<u64>, symbol: Option<&str>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(16);
    if let Some(size) = size {
        put_varint_field(&mut out, value::DIM_VALUE, size);
    }
    if let Some(symbol) = symbol {
        put_bytes(&mut out, value::DIM_PARAM, symbol.as_bytes());
    }
    for field in fields(dim) {
        let field = field?;
        if !matches!(field.number, value::DIM_VALUE | value::DIM_PARAM) {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

/// A value's name and shape for an error, as far as they can be read.
fn describe(info: &[u8]) -> String {
    let inner = |message, number| embedded(message, number).find_map(Result::ok).unwrap_or_default();
    let name: String = String::from_utf8_lossy(inner(info, value::NAME)).chars().take(NAME_SHOWN).collect();
    let shape = inner(inner(inner(info, value::TYPE), value::TYPE_TENSOR), value::TENSOR_SHAPE);
    let dims: Vec<_> = embedded(shape, value::SHAPE_DIM)
        .take(2 * NAMES_SHOWN)
        .map(|dim| {
            let size = fields(dim.unwrap_or_default()).find_map(|field| match field.ok()? {
                Field { number: value::DIM_VALUE, value: Value::Varint(size), .. } => Some(size.to_string()),
                _ => None,
            });
            size.unwrap_or_else(|| "?".to_owned())
        })
        .collect();
    format!("{name:?} [{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::wire::TRUNCATED;
    use super::*;
    use proptest::prelude::*;

    fn message(parts: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in parts {
            put_bytes(&mut out, *number, bytes);
        }
        out
    }

    fn number(field: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint_field(&mut out, field, value);
        out
    }

    fn value_info(name: &str, dims: &[u64]) -> Vec<u8> {
        let dims: Vec<_> = dims.iter().map(|&dim| (value::SHAPE_DIM, number(value::DIM_VALUE, dim))).collect();
        let tensor = [number(1, 1), message(&[(value::TENSOR_SHAPE, message(&dims))])].concat();
        message(&[(value::NAME, name.into()), (value::TYPE, message(&[(value::TYPE_TENSOR, tensor)]))])
    }

    fn weight(name: &str, data: &[u8]) -> Vec<u8> {
        message(&[(tensor::NAME, name.into()), (9, data.to_vec())])
    }

    fn model(graph: &[(u64, Vec<u8>)], ir_version: u64) -> Vec<u8> {
        [
            number(model::IR_VERSION, ir_version),
            message(&[(model::GRAPH, message(graph)), (model::OPSET_IMPORT, number(2, 9))]),
        ]
        .concat()
    }

    /// As an exporter leaves it: batch 10, 32×32, the weight among the inputs, a node and an inner shape.
    fn exported(data: &[u8]) -> Vec<u8> {
        model(
            &[
                (graph::NODE, message(&[(node::INPUT, "image".into()), (node::INPUT, "w".into()), (4, "Conv".into())])),
                (graph::INITIALIZER, weight("w", data)),
                (graph::INPUT, value_info("image", &[10, 3, 32, 32])),
                (graph::INPUT, value_info("w", &[8, 3, 3, 3])),
                (graph::VALUE_INFO, value_info("inner", &[10, 8, 16, 16])),
                (graph::OUTPUT, value_info("map", &[10, 2, 8, 8])),
            ],
            3,
        )
    }

    fn graph_of(model: &[u8]) -> &[u8] {
        embedded(model, model::GRAPH).next().unwrap().unwrap()
    }

    /// The declared dimensions of the values at `kind`: sizes, `"symbol"`s, or nothing.
    fn shapes(model: &[u8], kind: u64) -> Vec<Vec<String>> {
        let inner = |message, number| embedded(message, number).next().unwrap().unwrap();
        embedded(graph_of(model), kind)
            .map(|info| {
                let tensor = inner(inner(info.unwrap(), value::TYPE), value::TYPE_TENSOR);
                embedded(inner(tensor, value::TENSOR_SHAPE), value::SHAPE_DIM)
                    .map(|dim| match fields(dim.unwrap()).next().map(|field| field.unwrap().value) {
                        Some(Value::Varint(size)) => size.to_string(),
                        Some(Value::Bytes(symbol)) => String::from_utf8(symbol.to_vec()).unwrap(),
                        _ => String::new(),
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn the_picture_gets_batch_one_and_free_sides() {
        let usable = make_usable(&exported(b"weights")).unwrap();
        assert_eq!(shapes(&usable, graph::INPUT), [["1", "3", "height", "width"]]);
        assert_eq!(shapes(&usable, graph::OUTPUT), [["1", "2", "", ""]]);
    }

    #[test]
    fn weights_leave_the_inputs_and_keep_their_bytes() {
        let before = exported(b"weights");
        let usable = make_usable(&before).unwrap();
        let parts =
            |model: &[u8], kind| embedded(graph_of(model), kind).map(|p| p.unwrap().to_vec()).collect::<Vec<_>>();
        assert_eq!(parts(&usable, graph::INITIALIZER), parts(&before, graph::INITIALIZER));
        assert_eq!(parts(&usable, graph::NODE), parts(&before, graph::NODE));
        assert!(parts(&usable, graph::VALUE_INFO).is_empty(), "inner shapes were those of the old size");
    }

    #[test]
    fn a_weight_that_nothing_reads_goes_unless_an_inner_graph_may_read_it() {
        let weights = |extra: &[(u64, Vec<u8>)]| {
            let mut graph = vec![
                (graph::INPUT, value_info("image", &[1, 3, 8, 8])),
                (graph::NODE, message(&[(node::INPUT, "image".into()), (node::INPUT, "w".into())])),
                (graph::INITIALIZER, weight("w", b"1")),
                (graph::INITIALIZER, weight("num_batches_tracked", b"2")),
            ];
            graph.extend_from_slice(extra);
            let usable = make_usable(&model(&graph, 8)).unwrap();
            embedded(graph_of(&usable), graph::INITIALIZER).count()
        };
        assert_eq!(weights(&[]), 1);
        assert_eq!(weights(&[(graph::OUTPUT, value_info("num_batches_tracked", &[1, 1, 1, 1]))]), 2);
        assert_eq!(weights(&[(graph::QUANTIZATION_ANNOTATION, Vec::new())]), 2);
        let branch = message(&[(node::ATTRIBUTE, message(&[(node::ATTRIBUTE_GRAPH, Vec::new())]))]);
        assert_eq!(weights(&[(graph::NODE, branch)]), 2);
    }

    #[test]
    fn the_ir_version_is_raised_to_one_that_allows_private_weights_and_never_lowered() {
        let version = |model: &[u8]| match fields(model).next().unwrap().unwrap().value {
            Value::Varint(version) => version,
            _ => panic!("no version"),
        };
        assert_eq!(version(&make_usable(&exported(b"")).unwrap()), 4);
        let graph = [(graph::INPUT, value_info("image", &[1, 3, 8, 8]))];
        assert_eq!(version(&make_usable(&model(&graph, 8)).unwrap()), 8);
    }

    #[test]
    fn models_of_another_kind_are_refused_with_what_was_found() {
        let refused = |graph: &[(u64, Vec<u8>)]| make_usable(&model(graph, 8)).unwrap_err().to_string();
        let two = [(graph::INPUT, value_info("a", &[1, 3, 8, 8])), (graph::INPUT, value_info("b", &[1, 3, 8, 8]))];
        assert!(refused(&two).contains(r#"found "a" [1, 3, 8, 8], "b" [1, 3, 8, 8]"#), "{}", refused(&two));
        assert!(refused(&[]).contains("found none"));
        let flat = [(graph::INPUT, value_info("ids", &[1, 77]))];
        assert!(refused(&flat).contains(r#"[N, C, H, W], found "ids" [1, 77]"#), "{}", refused(&flat));
        let many: Vec<_> =
            (0..50).map(|n| (graph::INPUT, value_info(&n.to_string().repeat(99), &[1, 3, 8, 8]))).collect();
        assert!(refused(&many).len() < 400, "an error stays readable: {}", refused(&many));
    }

    #[test]
    fn files_that_are_no_model_are_refused() {
        for bytes in [
            &b""[..],
            b"PK\x03\x04 a zip",
            b"<!doctype html>",
            b"version https://git-lfs.github.com/spec/v1\n",
            &[0xff; 64],
        ] {
            assert!(matches!(make_usable(bytes), Err(RewriteError::Malformed(_))), "{bytes:?}");
        }
        let endless =
            [&number(model::IR_VERSION, 8)[..], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]]
                .concat();
        assert_eq!(make_usable(&endless), Err(TRUNCATED));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = make_usable(&bytes);
        }

        #[test]
        fn a_model_with_bytes_changed_is_answered_without_a_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut bytes = exported(b"weights");
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = make_usable(&bytes);
        }

        #[test]
        fn a_truncated_model_is_refused(data in prop::collection::vec(any::<u8>(), 0..40), cut in any::<prop::sample::Index>()) {
            let whole = exported(&data);
            prop_assert!(make_usable(&whole[..cut.index(whole.len())]).is_err());
        }

        #[test]
        fn a_second_rewrite_changes_nothing(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let usable = make_usable(&exported(&data)).unwrap();
            prop_assert_eq!(make_usable(&usable).unwrap(), usable);
        }

        #[test]
        fn unknown_fields_are_carried_byte_for_byte(
            unknown in prop::collection::vec((16u64..5000, prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            varints in prop::collection::vec((16u64..5000, any::<u64>()), 0..8),
        ) {
            let mut extra = message(&unknown);
            for (field, value) in varints {
                extra.extend(number(field, value));
            }
            let plain = exported(b"weights");
            let usable = make_usable(&[&plain[..], &extra].concat()).unwrap();
            prop_assert_eq!(usable, [&make_usable(&plain).unwrap()[..], &extra].concat());
        }
    }
}
