//! Small ONNX models, written by hand (onnx.proto3 of the ONNX repository; operator set 13): outputs that are known because
//! the test chose them.

/// The element types that a test may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32 = 1,
    U8 = 2,
    I32 = 6,
    I64 = 7,
    F16 = 10,
}

/// An input or output as the graph declares it; a side below 0 is open.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub kind: Kind,
    pub shape: Vec<i64>,
}

impl Port {
    pub fn new(name: &str, kind: Kind, shape: &[i64]) -> Self {
        Self { name: name.into(), kind, shape: shape.into() }
    }
}

/// A model whose outputs are constants, unless a node of its own makes one.
#[derive(Clone, Debug, Default)]
pub struct Model {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: Vec<Vec<u8>>,
    initializers: Vec<Vec<u8>>,
    metadata: Vec<(String, String)>,
}

impl Model {
    pub fn new(inputs: &[Port]) -> Self {
        Self { inputs: inputs.to_vec(), ..Self::default() }
    }

    /// Adds an output that always is `data`, of `shape`, given as `port` declares it.
    pub fn constant(mut self, port: Port, shape: &[i64], data: &[f32]) -> Self {
        let source = format!("{}_data", port.name);
        self.initializers.push(tensor(&source, shape, data));
        self.nodes.push(node("Cast", &[&source], &port.name, &[integer("to", port.kind as u64)]));
        self.outputs.push(port);
        self
    }

    /// Adds an output `[1, 3, 2]` of f32: for each channel of the input `image` 0 and the channel's mean over `axes`, times
    /// `scale`.
    pub fn channel_means(mut self, image: &str, axes: [u64; 2], scale: f32, name: &str) -> Self {
        self.initializers.push(tensor("zeros", &[1, 3, 1], &[0.0; 3]));
        self.initializers.push(tensor("scale", &[1], &[scale]));
        self.initializers.push(integers("column", &[1, 3, 1]));
        self.nodes.push(node("Cast", &[image], "floats", &[integer("to", Kind::F32 as u64)]));
        self.nodes.push(node(
            "ReduceMean",
            &["floats"],
            "means",
            &[integer_list("axes", &axes), integer("keepdims", 0)],
        ));
        self.nodes.push(node("Reshape", &["means", "column"], "columns", &[]));
        self.nodes.push(node("Mul", &["columns", "scale"], "shares", &[]));
        self.nodes.push(node("Concat", &["zeros", "shares"], name, &[integer("axis", 2)]));
        self.outputs.push(Port::new(name, Kind::F32, &[1, 3, 2]));
        self
    }

    /// Adds a note of the exporter.
    pub fn note(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// The model's file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut graph = Vec::new();
        self.nodes.iter().for_each(|node| bytes(&mut graph, 1, node));
        bytes(&mut graph, 2, b"test");
        self.initializers.iter().for_each(|tensor| bytes(&mut graph, 5, tensor));
        self.inputs.iter().for_each(|port| bytes(&mut graph, 11, &value_info(port)));
        self.outputs.iter().for_each(|port| bytes(&mut graph, 12, &value_info(port)));
        let mut opset = Vec::new();
        number(&mut opset, 2, 13);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        bytes(&mut model, 7, &graph);
        bytes(&mut model, 8, &opset);
        for (key, value) in &self.metadata {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, key.as_bytes());
            bytes(&mut entry, 2, value.as_bytes());
            bytes(&mut model, 14, &entry);
        }
        model
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn value_info(port: &Port) -> Vec<u8> {
    let mut shape = Vec::new();
    for (at, &side) in port.shape.iter().enumerate() {
        let mut dimension = Vec::new();
        match u64::try_from(side) {
            Ok(side) => number(&mut dimension, 1, side),
            Err(_) => bytes(&mut dimension, 2, format!("{}_{at}", port.name).as_bytes()),
        }
        bytes(&mut shape, 1, &dimension);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, port.kind as u64);
    bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    bytes(&mut info, 1, port.name.as_bytes());
    bytes(&mut info, 2, &kind);
    info
}

fn raw_tensor(name: &str, kind: Kind, shape: &[i64], raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    shape.iter().for_each(|&side| number(&mut out, 1, u64::try_from(side).unwrap()));
    number(&mut out, 2, kind as u64);
    bytes(&mut out, 8, name.as_bytes());
    bytes(&mut out, 9, raw);
    out
}

fn tensor(name: &str, shape: &[i64], data: &[f32]) -> Vec<u8> {
    let sides: i64 = shape.iter().product();
    assert_eq!(i64::try_from(data.len()).unwrap(), sides, "{name} of {shape:?}");
    raw_tensor(name, Kind::F32, shape, &data.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

fn integers(name: &str, data: &[i64]) -> Vec<u8> {
    let len = i64::try_from(data.len()).unwrap();
    raw_tensor(name, Kind::I64, &[len], &data.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

fn node(kind: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    inputs.iter().for_each(|name| bytes(&mut out, 1, name.as_bytes()));
    bytes(&mut out, 2, output.as_bytes());
    bytes(&mut out, 4, kind.as_bytes());
    attributes.iter().for_each(|attribute| bytes(&mut out, 5, attribute));
    out
}

fn integer(name: &str, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    number(&mut out, 3, value);
    number(&mut out, 20, 2);
    out
}

fn integer_list(name: &str, values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    values.iter().for_each(|&value| number(&mut out, 8, value));
    number(&mut out, 20, 7);
    out
}
