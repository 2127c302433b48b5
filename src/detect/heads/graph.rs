//! What a model's file says about its inputs and outputs, without any runtime's types.

use std::collections::BTreeMap;
use std::fmt;

use crate::detect::Layout;

/// An input or output of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The element type as the runtime writes it: `f32`, `f16`, `u8`, `i64`, …
    pub kind: String,
    /// The sides; `None` where the graph leaves one open.
    pub shape: Vec<Option<usize>>,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}[", self.name, self.kind)?;
        for (at, side) in self.shape.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match side {
                Some(side) => write!(f, "{comma}{side}")?,
                None => write!(f, "{comma}?")?,
            }
        }
        f.write_str("]")
    }
}

/// The outside of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// In the graph's order.
    pub inputs: Vec<Port>,
    /// In the graph's order.
    pub outputs: Vec<Port>,
    /// The exporter's notes: Ultralytics writes `names`, `imgsz`, `stride`, `task`, `kpt_shape`, `end2end`.
    pub metadata: BTreeMap<String, String>,
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ports: &[Port]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "inputs {}; outputs {}", list(&self.inputs), list(&self.outputs))
    }
}

/// Whether a side is what is expected, or left open.
pub fn fits(side: Option<usize>, expected: usize) -> bool {
    side.is_none_or(|side| side == expected)
}

/// The input that takes the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageInput<'a> {
    /// As the graph has it.
    pub port: &'a Port,
    /// The order of its axes; `None` where the sides do not tell it.
    pub layout: Option<Layout>,
    /// The fixed width, `None` where it is open.
    pub width: Option<usize>,
    /// The fixed height, `None` where it is open.
    pub height: Option<usize>,
}

/// The element types that a picture can be given in.
const IMAGE_KINDS: [&str; 3] = ["f32", "f16", "u8"];

/// The element types that a picture's size can be given in.
const SIZE_KINDS: [&str; 3] = ["i64", "i32", "f32"];

impl Graph {
    /// Whether all inputs and outputs leave their first side open, as a graph that takes several pictures does.
    #[must_use]
    pub fn takes_batches(&self) -> bool {
        let open = |port: &Port| port.shape.len() > 1 && port.shape.first() == Some(&None);
        self.inputs.iter().chain(&self.outputs).all(open)
    }

    /// The one input that takes a picture, of three channels, one picture at a time or any number; `layout` is what a manifest
    /// says of the order of the axes. Beside it one more input is allowed, [`size_input`](Self::size_input).
    ///
    /// # Errors
    /// Says what an image input is, when there is none such.
    pub fn image_input(&self, layout: Option<Layout>) -> Result<ImageInput<'_>, String> {
        const EXPECTED: &str = "one input [1,3,height,width] or [1,height,width,3] of f32, f16 or u8 is expected";
        let mut images = self.inputs.iter().filter_map(|port| image(port, layout));
        let Some(found) = images.next() else {
            return Err(match self.inputs.as_slice() {
                [input] => format!("{EXPECTED}, there is {input}"),
                inputs => format!("{EXPECTED}, there are {}", inputs.len()),
            });
        };
        let others = self.inputs.len() - 1;
        if images.next().is_some() || others > usize::from(self.size_input().is_some()) {
            return Err(format!(
                "{EXPECTED}, and at most one more, `orig_target_sizes` [1,2] of i64, i32 or f32; there are {}",
                self.inputs.len()
            ));
        }
        Ok(found)
    }

    /// The input that takes the size which boxes are wanted in (`orig_target_sizes` of RT-DETR and its kin): width, height.
    #[must_use]
    pub fn size_input(&self) -> Option<&Port> {
        self.inputs.iter().find(|port| {
            port.name.contains("target_size")
                && SIZE_KINDS.contains(&port.kind.as_str())
                && matches!(port.shape.as_slice(), &[batch, sides] if fits(batch, 1) && fits(sides, 2))
        })
    }
}

fn image(port: &Port, wanted: Option<Layout>) -> Option<ImageInput<'_>> {
    let &[batch, a, b, c] = port.shape.as_slice() else { return None };
    if !IMAGE_KINDS.contains(&port.kind.as_str()) || !fits(batch, 1) {
        return None;
    }
    // Three channels first is what nearly all exporters write; it also wins for a picture three pixels wide.
    let told = match (a, c) {
        (Some(3), _) => Some(Layout::Nchw),
        (_, Some(3)) => Some(Layout::Nhwc),
        _ => None,
    };
    let (channels, height, width) = match wanted.or(told) {
        Some(Layout::Nhwc) => (c, a, b),
        _ => (a, b, c),
    };
    fits(channels, 3).then_some(ImageInput { port, layout: told, width, height })
}
