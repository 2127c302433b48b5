//! Which output is which, for families whose outputs stand in no fixed order.

use super::graph::{Graph, Port, fits};

/// The place of the output that has one of the `names`, or else contains one of the `words`.
pub(super) fn named(graph: &Graph, names: &[&str], words: &[&str]) -> Option<usize> {
    let exact = graph.outputs.iter().position(|port| names.contains(&port.name.as_str()));
    exact.or_else(|| {
        graph.outputs.iter().position(|port| {
            let name = port.name.to_ascii_lowercase();
            // TensorFlow's detectors give their raw boxes and scores beside the finished ones.
            !name.contains("raw") && words.iter().any(|word| name.contains(word))
        })
    })
}

/// The place of the output with boxes: by its name, else the only one whose last side is 4.
pub(super) fn boxes(graph: &Graph) -> Option<usize> {
    let four = |port: &Port| fits(port.shape.last().copied().flatten(), 4) && port.shape.len() >= 2;
    if let Some(at) = named(graph, &["boxes", "dets"], &["box", "bbox"]) {
        return graph.outputs.get(at).filter(|port| four(port)).map(|_| at);
    }
    let mut found = graph.outputs.iter().enumerate().filter(|(_, port)| port.shape.last() == Some(&Some(4)));
    let (at, _) = found.next()?;
    found.next().is_none().then_some(at)
}

/// The output at `place` as the graph declares it.
pub(super) fn port(graph: &Graph, place: usize) -> Option<&Port> {
    graph.outputs.get(place)
}

/// How many classes an output `[1, count, classes]` declares.
pub(super) fn last_side(port: &Port) -> Option<usize> {
    port.shape.last().copied().flatten()
}
