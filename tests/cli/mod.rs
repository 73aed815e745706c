//! What a person reads after typing something, right or wrong.

mod arguments;
mod cases;
mod doctor;
mod rasterize;
mod unpack;
