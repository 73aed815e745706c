//! The check of an adapter that is yet to be trained: its names, shapes and config, before hours are
//! spent on it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use vlft_base::Result;
use vlft_base::output::{cannot, write_atomic};

use super::adapter::{CONFIG, FoundAdapter, WEIGHTS};
use super::check::{Options, check_names};
use super::report::Report;
use crate::adapter::{adapter_config, tensor_name};
use crate::layout::Layout;

/// Says what vLLM would do with the adapter that training with this layout writes. It is written for
/// this as a file with a header and a hole for its values, so that the check is the one of the end.
///
/// # Errors
/// The model cannot be read, or there is no temporary folder.
pub fn check_planned(
    layout: &Layout,
    base_model_name_or_path: &str,
    options: &Options,
) -> Result<Report> {
    let temporary = tempfile::Builder::new().prefix("vlft-planned-").tempdir();
    let temporary = temporary.map_err(|e| cannot("create", &std::env::temp_dir(), e))?;
    let dir = temporary.path();
    let config = adapter_config(layout, base_model_name_or_path).to_string();
    write_atomic(&dir.join(CONFIG), config.as_bytes())?;
    let path = dir.join(WEIGHTS);
    write_header(&path, layout).map_err(|e| cannot("write", &path, e))?;
    check_names(&FoundAdapter::open(dir)?, options)
}

fn write_header(path: &Path, layout: &Layout) -> io::Result<()> {
    let mut header = Map::new();
    let mut end = 0;
    for module in &layout.modules {
        for (part, shape) in [
            ('A', [module.rank, module.in_features]),
            ('B', [module.out_features, module.rank]),
        ] {
            let start = end;
            end += shape.iter().product::<usize>() * size_of::<f32>();
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
            header.insert(tensor_name(&module.name, part), entry);
        }
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.set_len((size_of::<u64>() + header.len() + end) as u64)
}
