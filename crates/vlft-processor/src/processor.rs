//! The processor of one model directory: record in, [`Sample`] out.

use std::path::Path;

use serde::Serialize;
use vlft_base::Result;
use vlft_dataset::record::Record;

use crate::sample::Sample;

/// What a config may override; `None` means the model's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub min_pixels: Option<u64>,
    pub max_pixels: Option<u64>,
}

/// Everything that serving must repeat to see what training saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contract {
    pub min_pixels: u64,
    pub max_pixels: u64,
}

pub struct Processor {}

#[allow(clippy::todo, unused_variables)]
impl Processor {
    pub fn from_dir(model_dir: &Path, options: &Options) -> Result<Self> {
        todo!("hours away")
    }
    pub fn sample(&self, record: &Record, base: &Path) -> Result<Sample> {
        todo!("hours away")
    }
    pub fn pad_token_id(&self) -> u32 {
        todo!("hours away")
    }
    pub fn contract(&self) -> Contract {
        todo!("hours away")
    }
}
