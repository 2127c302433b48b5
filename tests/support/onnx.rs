//! Small ONNX models, written by hand (onnx.proto3 of the ONNX repository; operator set 13): outputs that are known because
//! the test chose them.

/// The element types that a test may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32 = 1,
    U8 = 2,
    I32 = 6,
    I64 = 7,
    Bool = 9,
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

/// The side of the pictures that [`brightness`] takes.
pub const SIDE: i64 = 64;

/// Where it finds its object.
pub const BOX: [f32; 4] = [16.0, 8.0, 48.0, 40.0];

/// A model of the YOLOX layout with one class and an input of 64×64 pixels: it finds one object, always in the same place
/// ([`BOX`]), whose score is the mean of the input's samples over 255. `batch` is the input's first side, -1 for an open one; the
/// outputs of the pictures of a batch do not depend on each other.
pub fn brightness(batch: i64) -> Vec<u8> {
    brightness_after(batch, None)
}

/// The same, which never comes to an end.
pub fn endless_brightness() -> Vec<u8> {
    brightness_after(1, Some(i64::MAX))
}

fn brightness_after(batch: i64, rounds: Option<i64>) -> Vec<u8> {
    const ANCHORS: i64 = 8 * 8 + 4 * 4 + 2 * 2;
    const COLUMNS: usize = 6;
    let mut scale = vec![0.0; usize::try_from(ANCHORS).unwrap() * COLUMNS];
    let mut shift = scale.clone();
    // The last four cells are those of stride 32: the first of them, at (0, 0).
    let anchor = scale.len() - 4 * COLUMNS;
    scale[anchor + 4] = 1.0 / 255.0;
    let [x1, y1, x2, y2] = BOX;
    let centre = [f32::midpoint(x1, x2) / 32.0, f32::midpoint(y1, y2) / 32.0];
    let size = [((x2 - x1) / 32.0).ln(), ((y2 - y1) / 32.0).ln()];
    shift[anchor..anchor + 4].copy_from_slice(&[centre[0], centre[1], size[0], size[1]]);
    shift[anchor + 5] = 1.0;
    let mut model = Model::new(&[Port::new("images", Kind::F32, &[batch, 3, SIDE, SIDE])]);
    model.initializers.push(integers("each", &[-1, 1, 1]));
    model.initializers.push(tensor("scale", &[1, ANCHORS, 6], &scale));
    model.initializers.push(tensor("shift", &[1, ANCHORS, 6], &shift));
    let images = if let Some(rounds) = rounds {
        model.initializers.push(scalar("rounds", rounds));
        model.nodes.push(repeated("Abs", "rounds", "images", "looped", &[batch, 3, SIDE, SIDE]));
        "looped"
    } else {
        "images"
    };
    model.nodes.push(node("ReduceMean", &[images], "mean", &[integer_list("axes", &[1, 2, 3])]));
    model.nodes.push(node("Reshape", &["mean", "each"], "means", &[]));
    model.nodes.push(node("Mul", &["means", "scale"], "scaled", &[]));
    model.nodes.push(node("Add", &["scaled", "shift"], "output", &[]));
    model.outputs.push(Port::new("output", Kind::F32, &[batch, ANCHORS, 6]));
    model.bytes()
}

/// A model that doubles its input, `f32[1,3,4,4]`, so many times.
pub fn doubled(times: i64) -> Vec<u8> {
    let shape = [1, 3, 4, 4];
    let mut model = Model::new(&[Port::new("x", Kind::F32, &shape)]);
    model.initializers.push(scalar("times", times));
    model.nodes.push(repeated("Add", "times", "x", "y", &shape));
    model.outputs.push(Port::new("y", Kind::F32, &shape));
    model.bytes()
}

/// A node that gives a value to an operator of one or two inputs, and what that makes to it again, so often as `count` says.
fn repeated(operator: &str, count: &str, input: &str, output: &str, shape: &[i64]) -> Vec<u8> {
    let inputs: &[&str] = if operator == "Add" { &["v", "v"] } else { &["v"] };
    let mut body = Vec::new();
    bytes(&mut body, 1, &node("Identity", &["again"], "go_on", &[]));
    bytes(&mut body, 1, &node(operator, inputs, "next", &[]));
    bytes(&mut body, 2, b"body");
    for port in [Port::new("n", Kind::I64, &[]), Port::new("again", Kind::Bool, &[]), Port::new("v", Kind::F32, shape)]
    {
        bytes(&mut body, 11, &value_info(&port));
    }
    for port in [Port::new("go_on", Kind::Bool, &[]), Port::new("next", Kind::F32, shape)] {
        bytes(&mut body, 12, &value_info(&port));
    }
    // AttributeProto: the name, the graph, the type GRAPH.
    let mut attribute = Vec::new();
    bytes(&mut attribute, 1, b"body");
    bytes(&mut attribute, 6, &body);
    number(&mut attribute, 20, 5);
    node("Loop", &[count, "", input], output, &[attribute])
}

/// A model with so many bytes of weights, and little else: the mean of the product of `f32[1,3,4,4]` with a wide matrix.
pub fn heavy(bytes: usize) -> Vec<u8> {
    const ROWS: usize = 3 * 4 * 4;
    let columns = bytes / size_of::<f32>() / ROWS;
    let matrix: Vec<f32> =
        [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75].into_iter().cycle().take(columns * ROWS).collect();
    let sides = [ROWS, columns].map(|side| i64::try_from(side).unwrap());
    let mut model = Model::new(&[Port::new("x", Kind::F32, &[1, 3, 4, 4])]);
    model.initializers.push(tensor("matrix", &sides, &matrix));
    model.nodes.push(node("Flatten", &["x"], "flat", &[]));
    model.nodes.push(node("MatMul", &["flat", "matrix"], "wide", &[]));
    model.nodes.push(node("ReduceMean", &["wide"], "y", &[integer_list("axes", &[1])]));
    model.outputs.push(Port::new("y", Kind::F32, &[1, 1]));
    model.bytes()
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

fn scalar(name: &str, value: i64) -> Vec<u8> {
    raw_tensor(name, Kind::I64, &[], &value.to_le_bytes())
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
