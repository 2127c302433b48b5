//! The only room that knows the order.
