//! Tensors to and from what stands on the wire.

use bytes::Bytes;
use half::f16;

use super::super::plug::{Fed, Numbers};
use super::wire::{Contents, ModelInferResponse, ModelMetadataResponse, Tensor};
use crate::detect::Layout;
use crate::detect::heads::{Graph, Port};

/// One output of a run: sides and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pub shape: Vec<i64>,
    pub data: Vec<f32>,
}

/// The protocol's names of the number types that outputs are read in, and the runtime's.
const KINDS: [(&str, &str); 6] =
    [("FP32", "f32"), ("FP16", "f16"), ("FP64", "f64"), ("UINT8", "u8"), ("INT32", "i32"), ("INT64", "i64")];

/// An input as it is named on the wire, and its bytes, little-endian as the protocol has it.
pub fn input(fed: &Fed<'_>) -> (Tensor, Bytes) {
    let (datatype, bytes) = match fed.numbers {
        Numbers::F32(values) => ("FP32", raw(values, f32::to_le_bytes)),
        Numbers::F16(values) => ("FP16", raw(values, f16::to_le_bytes)),
        Numbers::U8(values) => ("UINT8", Bytes::copy_from_slice(values)),
        Numbers::I64(values) => ("INT64", raw(values, i64::to_le_bytes)),
        Numbers::I32(values) => ("INT32", raw(values, i32::to_le_bytes)),
    };
    let shape = fed.shape.iter().map(|&side| i64::try_from(side).unwrap_or(i64::MAX)).collect();
    (Tensor { name: fed.name.to_owned(), datatype: datatype.to_owned(), shape, contents: None }, bytes)
}

fn raw<const N: usize, T: Copy>(values: &[T], bytes_of: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut bytes = vec![0; values.len() * N];
    let (places, _) = bytes.as_chunks_mut();
    for (place, &value) in places.iter_mut().zip(values) {
        *place = bytes_of(value);
    }
    bytes.into()
}

/// The values of such bytes; `None` where they do not come out even, or are of another type.
#[allow(clippy::cast_possible_truncation)] // of what no score and no coordinate needs
fn unraw(datatype: &str, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        let (values, rest) = bytes.as_chunks();
        rest.is_empty().then(|| values.iter().map(|&bytes| value(bytes)).collect())
    }
    match datatype {
        "FP32" => each(bytes, f32::from_le_bytes),
        "FP16" => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        "FP64" => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        "UINT8" => each(bytes, |[value]| f32::from(value)),
        "INT32" => each(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
        "INT64" => each(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
        _ => None,
    }
}

/// The same of values that are not sent raw; the protocol has no place for FP16 among them.
#[allow(clippy::cast_possible_truncation)] // as above
fn unpacked(datatype: &str, contents: Contents) -> Option<Vec<f32>> {
    let Contents { ints, longs, uints, floats, doubles } = contents;
    match datatype {
        "FP32" => Some(floats),
        "FP64" => Some(doubles.into_iter().map(|value| value as f32).collect()),
        "UINT8" => Some(uints.into_iter().map(|value| value as f32).collect()),
        "INT32" => Some(ints.into_iter().map(|value| value as f32).collect()),
        "INT64" => Some(longs.into_iter().map(|value| value as f32).collect()),
        _ => None,
    }
}

/// The outside of the model. The protocol has no place for the exporter's notes.
pub fn graph(metadata: &ModelMetadataResponse) -> Graph {
    let ports = |tensors: &[Tensor]| tensors.iter().map(port).collect();
    Graph { inputs: ports(&metadata.inputs), outputs: ports(&metadata.outputs), ..Graph::default() }
}

fn port(tensor: &Tensor) -> Port {
    let known = KINDS.iter().find(|(datatype, _)| *datatype == tensor.datatype);
    let kind = known.map_or_else(|| tensor.datatype.to_lowercase(), |(_, kind)| (*kind).to_owned());
    let shape = tensor.shape.iter().map(|&side| usize::try_from(side).ok()).collect();
    Port { name: tensor.name.clone(), kind, shape }
}

/// Checks that a model takes pictures, and gives what can be read here.
///
/// # Errors
/// Says what is expected of a model on a server.
pub fn check(graph: &Graph, layout: Option<Layout>) -> Result<(), String> {
    graph.image_input(layout)?;
    match graph.outputs.iter().find(|port| !KINDS.iter().any(|(_, kind)| *kind == port.kind)) {
        None => Ok(()),
        Some(port) => Err(format!("of a model on a server outputs of numbers are expected, there is {port}")),
    }
}

/// The outputs in the graph's order.
///
/// # Errors
/// Says which output is missing, of another type, or not as long as its shape.
pub fn outputs(response: ModelInferResponse, graph: &Graph) -> Result<Vec<Values>, String> {
    let ModelInferResponse { outputs, raw_output_contents } = response;
    let mut found: Vec<_> = outputs.into_iter().enumerate().map(Some).collect();
    let take = |port: &Port| {
        let named = |place: &&mut Option<(usize, _)>| {
            place.as_ref().is_some_and(|(_, tensor): &(usize, Tensor)| tensor.name == port.name)
        };
        let (at, Tensor { name, datatype, shape, contents }) = found
            .iter_mut()
            .find(named)
            .and_then(Option::take)
            .ok_or_else(|| format!("the answer has no output {port}"))?;
        // What the model was taken for stands in its metadata.
        if !KINDS.contains(&(datatype.as_str(), port.kind.as_str())) {
            return Err(format!("the output `{name}` is {datatype}; {} is expected", port.kind));
        }
        let data = match raw_output_contents.get(at) {
            Some(bytes) => unraw(&datatype, bytes),
            None => contents.and_then(|contents| unpacked(&datatype, contents)),
        };
        let len = shape.iter().try_fold(1usize, |len, &side| len.checked_mul(usize::try_from(side).ok()?));
        match data {
            Some(data) if Some(data.len()) == len => Ok(Values { shape, data }),
            data => {
                let values = data.unwrap_or_default().len();
                Err(format!("the output `{name}` has the shape {shape:?} and {values} values"))
            }
        }
    };
    graph.outputs.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn tensor(name: &str, datatype: &str, shape: &[i64]) -> Tensor {
        Tensor { name: name.into(), datatype: datatype.into(), shape: shape.into(), contents: None }
    }

    fn two_outputs(kind: &str) -> Graph {
        let port = |name: &str| Port { name: name.into(), kind: kind.into(), shape: vec![None, Some(2)] };
        Graph { outputs: vec![port("a"), port("b")], ..Graph::default() }
    }

    fn all<T: From<u8>>(values: &[u8]) -> Vec<T> {
        values.iter().map(|&value| value.into()).collect()
    }

    fn floats(values: &[f32]) -> Bytes {
        raw(values, f32::to_le_bytes)
    }

    #[test]
    fn outputs_are_found_by_name_raw_or_not() {
        let expected =
            [Values { shape: vec![1, 2], data: vec![1.0, 2.0] }, Values { shape: vec![1, 1], data: vec![3.0] }];
        let halves = |values: &[f32]| raw(values, |value| f16::from_f32(value).to_le_bytes());
        for (datatype, kind, three, one_two) in [
            ("FP32", "f32", floats(&[3.0]), floats(&[1.0, 2.0])),
            ("FP16", "f16", halves(&[3.0]), halves(&[1.0, 2.0])),
            ("FP64", "f64", raw(&[3.0], f64::to_le_bytes), raw(&[1.0, 2.0], f64::to_le_bytes)),
            ("UINT8", "u8", Bytes::from_static(&[3]), Bytes::from_static(&[1, 2])),
            ("INT32", "i32", raw(&[3], i32::to_le_bytes), raw(&[1, 2], i32::to_le_bytes)),
            ("INT64", "i64", raw(&[3], i64::to_le_bytes), raw(&[1, 2], i64::to_le_bytes)),
        ] {
            let bytes = ModelInferResponse {
                outputs: vec![tensor("b", datatype, &[1, 1]), tensor("a", datatype, &[1, 2])],
                raw_output_contents: vec![three, one_two],
            };
            assert_eq!(outputs(bytes, &two_outputs(kind)).unwrap(), expected, "{datatype}");
        }
        let typed = |datatype: &str, kind: &str, contents: fn(&[u8]) -> Contents| {
            let with = |name: &str, values: &[u8]| {
                let shape = [1, i64::try_from(values.len()).unwrap()];
                Tensor { contents: Some(contents(values)), ..tensor(name, datatype, &shape) }
            };
            let outputs = vec![with("b", &[3]), with("a", &[1, 2])];
            super::outputs(ModelInferResponse { outputs, raw_output_contents: Vec::new() }, &two_outputs(kind))
        };
        assert_eq!(typed("FP32", "f32", |v| Contents { floats: all(v), ..Contents::default() }).unwrap(), expected);
        assert_eq!(typed("FP64", "f64", |v| Contents { doubles: all(v), ..Contents::default() }).unwrap(), expected);
        assert_eq!(typed("UINT8", "u8", |v| Contents { uints: all(v), ..Contents::default() }).unwrap(), expected);
        assert_eq!(typed("INT32", "i32", |v| Contents { ints: all(v), ..Contents::default() }).unwrap(), expected);
        assert_eq!(typed("INT64", "i64", |v| Contents { longs: all(v), ..Contents::default() }).unwrap(), expected);
        assert!(typed("FP16", "f16", |_| Contents::default()).unwrap_err().contains("0 values"));
    }

    #[test]
    fn an_answer_that_is_not_what_it_says_is_refused() {
        for (shape, bytes) in [(vec![1, 2], vec![0; 4]), (vec![1, 2], vec![0; 9]), (vec![-1, 2], vec![0; 8])] {
            let answer = ModelInferResponse {
                outputs: vec![tensor("a", "FP32", &shape), tensor("b", "FP32", &[0])],
                raw_output_contents: vec![bytes.into(), Bytes::new()],
            };
            assert!(outputs(answer, &two_outputs("f32")).unwrap_err().contains("`a`"));
        }
        let answer = ModelInferResponse { outputs: vec![tensor("a", "INT64", &[1])], raw_output_contents: Vec::new() };
        assert!(outputs(answer, &two_outputs("f32")).unwrap_err().contains("INT64"));
        let nothing = ModelInferResponse::default();
        assert!(outputs(nothing, &two_outputs("f32")).unwrap_err().contains("no output `a`"));
    }

    #[test]
    fn metadata_become_ports_with_open_sides() {
        let metadata = ModelMetadataResponse {
            inputs: vec![tensor("images", "FP32", &[-1, 3, 640, 640])],
            outputs: vec![tensor("out", "INT64", &[1])],
        };
        let graph = graph(&metadata);
        assert_eq!(graph.inputs[0].shape, [None, Some(3), Some(640), Some(640)]);
        assert_eq!((graph.inputs[0].kind.as_str(), graph.outputs[0].kind.as_str()), ("f32", "i64"));
    }

    #[test]
    fn a_model_that_needs_what_the_wire_does_not_carry_is_refused() {
        let planes = || tensor("images", "FP32", &[-1, 3, 64, 64]);
        let said = |inputs: Vec<Tensor>, output: &str, layout| {
            let outputs = vec![tensor("out", output, &[-1, 84, 6])];
            check(&graph(&ModelMetadataResponse { inputs, outputs }), layout)
        };
        for (inputs, output, layout) in [
            (vec![planes()], "FP32", None),
            (vec![planes()], "FP16", None),
            (vec![tensor("images", "UINT8", &[1, 64, 64, 3])], "FP32", None),
            (vec![tensor("images", "FP16", &[1, -1, -1, -1])], "FP32", Some(Layout::Nhwc)),
            (vec![planes(), tensor("orig_target_sizes", "INT64", &[-1, 2])], "INT64", None),
        ] {
            assert_eq!(said(inputs, output, layout), Ok(()));
        }
        for (inputs, output, hint) in [
            (vec![tensor("images", "INT32", &[1, 3, 64, 64])], "FP32", "f32, f16 or u8"),
            (vec![planes(), tensor("threshold", "FP32", &[1])], "FP32", "at most one more"),
            (vec![planes()], "BYTES", "on a server"),
        ] {
            let error = said(inputs, output, None).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }

    proptest! {
        #[test]
        fn values_survive_the_wire(values in prop::collection::vec(any::<f32>(), 0..50)) {
            let shape = vec![values.len()];
            let (tensor, bytes) = input(&Fed { name: "x", shape, numbers: Numbers::F32(&values) });
            let back = unraw(&tensor.datatype, &bytes).unwrap();
            prop_assert!(back.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
            prop_assert_eq!((back.len(), tensor.shape), (values.len(), vec![i64::try_from(values.len()).unwrap()]));
        }

        #[test]
        fn an_input_of_any_type_has_its_own_bytes(values in prop::collection::vec(any::<u8>(), 0..50)) {
            let halves: Vec<_> = values.iter().map(|&value| f16::from_f32(f32::from(value))).collect();
            let longs: Vec<_> = values.iter().map(|&value| i64::from(value)).collect();
            let ints: Vec<_> = values.iter().map(|&value| i32::from(value)).collect();
            let expected: Vec<_> = values.iter().map(|&value| f32::from(value)).collect();
            for numbers in [Numbers::F16(&halves), Numbers::U8(&values), Numbers::I64(&longs), Numbers::I32(&ints)] {
                let (tensor, bytes) = input(&Fed { name: "x", shape: vec![values.len()], numbers });
                let back = unraw(&tensor.datatype, &bytes);
                prop_assert_eq!(back.as_ref(), Some(&expected), "{}", tensor.datatype);
            }
        }

        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..KINDS.len()) {
            if let Ok(answer) = ModelInferResponse::decode(&bytes[..]) {
                let _ = outputs(answer, &two_outputs(KINDS[kind].1));
            }
            if let Ok(metadata) = ModelMetadataResponse::decode(&bytes[..]) {
                let _ = check(&graph(&metadata), None);
            }
            unraw(KINDS[kind].0, &bytes);
        }
    }
}
