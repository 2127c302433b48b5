//! Arguments → Config → telemetry → server.

fn main() {}
