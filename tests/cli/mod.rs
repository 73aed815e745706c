//! What a person reads after typing something, right or wrong.

mod arguments;
mod cases;
mod conventions;
mod doctor;
mod inspect;
mod many_machines;
mod rasterize;
mod rasterize_ends;
mod runpod;
mod scaffold;
mod serving;
mod unpack;
