//! What a model's file says about its inputs and outputs, without any runtime's types.

use std::collections::BTreeMap;
use std::fmt;

/// An input or output of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The element type as the runtime writes it, `f32` for the only one that is used.
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
    /// The exporter's notes: Ultralytics writes `names`, `imgsz`, `stride`, `task`.
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

impl Graph {
    /// Whether all inputs and outputs leave their first side open, as a graph that takes several pictures does.
    #[must_use]
    pub fn takes_batches(&self) -> bool {
        let open = |port: &Port| port.shape.len() > 1 && port.shape.first() == Some(&None);
        self.inputs.iter().chain(&self.outputs).all(open)
    }

    /// The fixed width and height of the one image input, `None` for a side that is open.
    ///
    /// # Errors
    /// Says what an image input is, when there is none such.
    pub fn image_input(&self) -> Result<(Option<usize>, Option<usize>), String> {
        const EXPECTED: &str = "one input f32[1,3,height,width] is expected";
        let [input] = self.inputs.as_slice() else {
            return Err(format!("{EXPECTED}, there are {}", self.inputs.len()));
        };
        match (input.kind.as_str(), input.shape.as_slice()) {
            ("f32", &[batch, channels, height, width]) if fits(batch, 1) && fits(channels, 3) => Ok((width, height)),
            _ => Err(format!("{EXPECTED}, there is {input}")),
        }
    }
}
