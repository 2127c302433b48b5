//! ONNX models that a test makes itself, whose outputs are known: protobuf by hand, after `onnx/onnx.proto`.

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that holds bytes (wire type 2).
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, number << 3 | 2);
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// A field that holds a number (wire type 0).
fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3);
    varint(&mut out, value);
    out
}

/// A side of a shape.
#[derive(Clone, Copy)]
pub enum Side {
    Fixed(u64),
    Open(&'static str),
}

const FLOAT: u64 = 1;

/// `ValueInfoProto` of an f32 tensor.
fn port(name: &str, sides: &[Side]) -> Vec<u8> {
    let sides: Vec<u8> = sides
        .iter()
        .flat_map(|side| match side {
            Side::Fixed(side) => field(1, &number(1, *side)),
            Side::Open(name) => field(1, &field(2, name.as_bytes())),
        })
        .collect();
    let kind = field(1, &[number(1, FLOAT), field(2, &sides)].concat());
    [field(1, name.as_bytes()), field(2, &kind)].concat()
}

/// `AttributeProto` of a list of numbers.
fn numbers(name: &str, values: &[u64]) -> Vec<u8> {
    let values = values.iter().flat_map(|&value| number(8, value));
    field(5, &[field(1, name.as_bytes()), values.collect(), number(20, 7)].concat())
}

fn node(kind: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| field(1, name.as_bytes()));
    let node: Vec<u8> =
        inputs.chain(field(2, output.as_bytes())).chain(field(4, kind.as_bytes())).chain(attributes.to_vec()).collect();
    field(1, &node)
}

/// `TensorProto` of f32 values.
fn weights(name: &str, sides: &[u64], values: &[f32]) -> Vec<u8> {
    let sides = sides.iter().flat_map(|&side| number(1, side)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    field(5, &[sides, number(2, FLOAT), field(8, name.as_bytes()), field(9, &raw)].concat())
}

/// The side of the pictures that [`brightness`] takes.
pub const SIDE: u64 = 64;

/// Where it finds its object.
pub const BOX: [f32; 4] = [16.0, 8.0, 48.0, 40.0];

/// A model of the YOLOX layout with one class and an input of 64×64 pixels: it finds one object, always in the same place
/// ([`BOX`]), whose score is the mean of the input's samples over 255. `batch` is the input's first side; the outputs of the
/// pictures of a batch do not depend on each other.
pub fn brightness(batch: Side) -> Vec<u8> {
    const ANCHORS: u64 = 8 * 8 + 4 * 4 + 2 * 2;
    // The last four cells are those of stride 32: the first of them, at (0, 0).
    let anchor = (ANCHORS - 4) as usize * 6;
    let mut scale = vec![0.0; (ANCHORS * 6) as usize];
    let mut shift = vec![0.0; scale.len()];
    scale[anchor + 4] = 1.0 / 255.0;
    let [x1, y1, x2, y2] = BOX;
    let centre = [(x1 + x2) / 2.0 / 32.0, (y1 + y2) / 2.0 / 32.0];
    let size = [((x2 - x1) / 32.0).ln(), ((y2 - y1) / 32.0).ln()];
    shift[anchor..anchor + 4].copy_from_slice(&[centre[0], centre[1], size[0], size[1]]);
    shift[anchor + 5] = 1.0;
    let graph = [
        node("ReduceMean", &["images"], "mean", &numbers("axes", &[1, 2, 3])),
        node("Squeeze", &["mean"], "flat", &numbers("axes", &[3])),
        node("Mul", &["flat", "scale"], "scaled", &[]),
        node("Add", &["scaled", "shift"], "output", &[]),
        field(2, b"brightness"),
        weights("scale", &[1, ANCHORS, 6], &scale),
        weights("shift", &[1, ANCHORS, 6], &shift),
        field(11, &port("images", &[batch, Side::Fixed(3), Side::Fixed(SIDE), Side::Fixed(SIDE)])),
        field(12, &port("output", &[batch, Side::Fixed(ANCHORS), Side::Fixed(6)])),
    ];
    // IR version 7, operators as of opset 11, in which axes are attributes.
    [number(1, 7), field(7, &graph.concat()), field(8, &number(2, 11))].concat()
}

/// A model with so many bytes of weights, and little else: the mean of the product of `f32[1,3,4,4]` with a wide matrix.
pub fn heavy(bytes: usize) -> Vec<u8> {
    const ROWS: u64 = 3 * 4 * 4;
    let columns = bytes as u64 / 4 / ROWS;
    let matrix: Vec<f32> = (0..columns * ROWS).map(|at| (at % 7) as f32 / 8.0).collect();
    let graph = [
        node("Flatten", &["x"], "flat", &[]),
        node("MatMul", &["flat", "matrix"], "wide", &[]),
        node("ReduceMean", &["wide"], "y", &numbers("axes", &[1])),
        field(2, b"heavy"),
        weights("matrix", &[ROWS, columns], &matrix),
        field(11, &port("x", &[1, 3, 4, 4].map(Side::Fixed))),
        field(12, &port("y", &[1, 1].map(Side::Fixed))),
    ];
    [number(1, 7), field(7, &graph.concat()), field(8, &number(2, 11))].concat()
}
