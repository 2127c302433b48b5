//! Small ONNX files whose answer is known: a YOLOX of 64×64 pixels that finds one square in every picture, whatever is in it.

/// The bytes of a protobuf field that holds bytes (wire type 2).
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

/// The same of a small number (wire type 0).
fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

const FLOAT: u8 = 1;

/// A tensor's name, type and shape (`ValueInfoProto`).
fn tensor(name: &str, sides: &[u8]) -> Vec<u8> {
    let sides: Vec<u8> = sides.iter().flat_map(|&side| field(1, &number(1, side))).collect();
    let kind = field(1, &[number(1, FLOAT), field(2, &sides)].concat());
    [field(1, name.as_bytes()), field(2, &kind)].concat()
}

/// The cells of the grids of strides 8, 16 and 32.
const ANCHORS: u8 = 64 + 16 + 4;

/// Where the square is found, in pixels of a picture of 64×64.
#[allow(dead_code)] // not every test looks
pub const SQUARE: [f32; 4] = [16.0, 16.0, 48.0, 48.0];

/// A model of `classes` classes, that gives the square the class 0 and this score.
pub fn yolox(score: f32, classes: u8) -> Vec<u8> {
    let columns = 5 + classes;
    let mut values = vec![0f32; usize::from(ANCHORS) * usize::from(columns)];
    // The first cell of stride 8: centre and size in cells, the size as its logarithm.
    values[..6].copy_from_slice(&[4.0, 4.0, 4f32.ln(), 4f32.ln(), 1.0, score]);
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let sides = [1, ANCHORS, columns];
    let dims: Vec<u8> = sides.iter().flat_map(|&side| number(1, side)).collect();
    let constant = [dims, number(2, FLOAT), field(8, b"answer"), field(9, &raw)].concat();
    let node = [field(1, b"answer"), field(2, b"output"), field(4, b"Identity")].concat();
    let graph = [
        field(1, &node),
        field(2, b"tiny"),
        field(5, &constant),
        field(11, &tensor("images", &[1, 3, 64, 64])),
        field(12, &tensor("output", &sides)),
    ];
    // ModelProto: the version of the format, the graph, the version of the operators.
    [number(1, 8), field(7, &graph.concat()), field(8, &number(2, 13))].concat()
}
