//! The bill-of-lading example and the tiny model's files. Everything here is invented from a seed and
//! equal to the byte on every platform: drawing is integer arithmetic, the order of everything is
//! written down, and no file carries a time. Only the demo and tests reach this crate; it knows
//! pages and text, never tensors.

mod dice;
pub mod digits;
pub mod documents;
mod page;
pub mod tiny_model;
