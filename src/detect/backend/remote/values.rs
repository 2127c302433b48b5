//! Tensors to and from what stands on the wire.

use bytes::Bytes;

use super::wire::{ModelInferResponse, ModelMetadataResponse, TensorMetadata};
use crate::detect::Layout;
use crate::detect::heads::{Graph, Port};

/// One output of a run: sides and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pub shape: Vec<i64>,
    pub data: Vec<f32>,
}

/// The bytes of a tensor, little-endian as the protocol has it.
pub fn raw(tensor: &[f32]) -> Bytes {
    let mut bytes = vec![0; size_of_val(tensor)];
    for (out, value) in bytes.chunks_exact_mut(size_of::<f32>()).zip(tensor) {
        out.copy_from_slice(&value.to_le_bytes());
    }
    bytes.into()
}

/// The values of such bytes; `None` where they do not come out even.
fn unraw(bytes: &[u8]) -> Option<Vec<f32>> {
    let (values, rest) = bytes.as_chunks();
    rest.is_empty().then(|| values.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// The outside of the model. The protocol has no place for the exporter's notes.
pub fn graph(metadata: &ModelMetadataResponse) -> Graph {
    let ports = |tensors: &[TensorMetadata]| tensors.iter().map(port).collect();
    Graph { inputs: ports(&metadata.inputs), outputs: ports(&metadata.outputs), ..Graph::default() }
}

fn port(tensor: &TensorMetadata) -> Port {
    let kind = match tensor.datatype.as_str() {
        "FP32" => "f32".to_owned(),
        "FP16" => "f16".to_owned(),
        "FP64" => "f64".to_owned(),
        "UINT8" => "u8".to_owned(),
        "INT32" => "i32".to_owned(),
        "INT64" => "i64".to_owned(),
        other => other.to_lowercase(),
    };
    let shape = tensor.shape.iter().map(|&side| usize::try_from(side).ok()).collect();
    Port { name: tensor.name.clone(), kind, shape }
}

/// Checks that a model takes one tensor of pictures, and gives what can be read here; nothing else is put on the wire.
///
/// # Errors
/// Says what is expected of a model on a server.
pub fn check(graph: &Graph, layout: Option<Layout>) -> Result<(), String> {
    let image = graph.image_input(layout)?;
    let plain = layout.or(image.layout) != Some(Layout::Nhwc) && graph.inputs.len() == 1;
    let floats = graph.inputs.iter().chain(&graph.outputs).all(|port| port.kind == "f32");
    if plain && floats {
        return Ok(());
    }
    Err("of a model on a server one input f32[n,3,height,width] is expected, and outputs of f32".to_owned())
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
            place.as_ref().is_some_and(|(_, tensor): &(usize, super::wire::InferTensor)| tensor.name == port.name)
        };
        let (at, tensor) = found
            .iter_mut()
            .find(named)
            .and_then(Option::take)
            .ok_or_else(|| format!("the answer has no output {port}"))?;
        if tensor.datatype != "FP32" {
            return Err(format!("the output `{}` is {}; FP32 is expected", tensor.name, tensor.datatype));
        }
        let data = match raw_output_contents.get(at) {
            Some(bytes) => unraw(bytes),
            None => tensor.contents.map(|contents| contents.fp32_contents),
        };
        let len = tensor.shape.iter().try_fold(1usize, |len, &side| len.checked_mul(usize::try_from(side).ok()?));
        match data {
            Some(data) if Some(data.len()) == len => Ok(Values { shape: tensor.shape, data }),
            data => Err(format!(
                "the output `{}` has the shape {:?} and {} values",
                tensor.name,
                tensor.shape,
                data.unwrap_or_default().len()
            )),
        }
    };
    graph.outputs.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Contents, InferTensor};
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn tensor(name: &str, shape: &[i64], contents: Option<Vec<f32>>) -> InferTensor {
        let contents = contents.map(|fp32_contents| Contents { fp32_contents });
        InferTensor { name: name.into(), datatype: "FP32".into(), shape: shape.into(), contents }
    }

    fn two_outputs() -> Graph {
        let port = |name: &str| Port { name: name.into(), kind: "f32".into(), shape: vec![None, Some(2)] };
        Graph { outputs: vec![port("a"), port("b")], ..Graph::default() }
    }

    #[test]
    fn outputs_are_found_by_name_raw_or_not() {
        let expected =
            [Values { shape: vec![1, 2], data: vec![1.0, 2.0] }, Values { shape: vec![1, 1], data: vec![3.0] }];
        let bytes = ModelInferResponse {
            outputs: vec![tensor("b", &[1, 1], None), tensor("a", &[1, 2], None)],
            raw_output_contents: vec![raw(&[3.0]), raw(&[1.0, 2.0])],
        };
        assert_eq!(outputs(bytes, &two_outputs()).unwrap(), expected);
        let typed = ModelInferResponse {
            outputs: vec![tensor("b", &[1, 1], Some(vec![3.0])), tensor("a", &[1, 2], Some(vec![1.0, 2.0]))],
            raw_output_contents: Vec::new(),
        };
        assert_eq!(outputs(typed, &two_outputs()).unwrap(), expected);
    }

    #[test]
    fn an_answer_that_is_not_what_it_says_is_refused() {
        for (shape, bytes) in [(vec![1, 2], vec![0; 4]), (vec![1, 2], vec![0; 9]), (vec![-1, 2], vec![0; 8])] {
            let answer = ModelInferResponse {
                outputs: vec![tensor("a", &shape, None), tensor("b", &[0], None)],
                raw_output_contents: vec![bytes.into(), Bytes::new()],
            };
            assert!(outputs(answer, &two_outputs()).unwrap_err().contains("`a`"));
        }
        let other = InferTensor { datatype: "INT64".into(), ..tensor("a", &[1], None) };
        let answer = ModelInferResponse { outputs: vec![other], raw_output_contents: Vec::new() };
        assert!(outputs(answer, &two_outputs()).unwrap_err().contains("INT64"));
        assert!(outputs(ModelInferResponse::default(), &two_outputs()).unwrap_err().contains("no output `a`"));
    }

    #[test]
    fn metadata_become_ports_with_open_sides() {
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.into(),
        };
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
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.into(),
        };
        let planes = || tensor("images", "FP32", &[-1, 3, 64, 64]);
        let said = |inputs: Vec<TensorMetadata>, output: &str, layout| {
            let outputs = vec![tensor("out", output, &[-1, 84, 6])];
            check(&graph(&ModelMetadataResponse { inputs, outputs }), layout)
        };
        assert_eq!(said(vec![planes()], "FP32", None), Ok(()));
        let size = tensor("orig_target_sizes", "INT64", &[-1, 2]);
        for (inputs, output, layout) in [
            (vec![tensor("images", "FP32", &[1, 64, 64, 3])], "FP32", None),
            (vec![tensor("images", "FP32", &[1, -1, -1, -1])], "FP32", Some(Layout::Nhwc)),
            (vec![tensor("images", "FP16", &[1, 3, 64, 64])], "FP32", None),
            (vec![tensor("images", "UINT8", &[1, 3, 64, 64])], "FP32", None),
            (vec![planes(), size], "FP32", None),
            (vec![planes()], "FP16", None),
        ] {
            let error = said(inputs, output, layout).unwrap_err();
            assert!(error.contains("on a server"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn values_survive_the_wire(values in prop::collection::vec(any::<f32>(), 0..50)) {
            let back = unraw(&raw(&values)).unwrap();
            prop_assert!(back.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
            prop_assert_eq!(back.len(), values.len());
        }

        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(answer) = ModelInferResponse::decode(&bytes[..]) {
                let _ = outputs(answer, &two_outputs());
            }
            if let Ok(metadata) = ModelMetadataResponse::decode(&bytes[..]) {
                graph(&metadata);
            }
        }
    }
}
