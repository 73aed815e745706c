//! Any text as a mapping and as an alias file: what is read can be written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vlft_dataset::build::aliases::Aliases;
use vlft_dataset::build::mapping::Mapping;

fuzz_target!(|text: &str| {
    let path = Path::new("m.toml");
    let _ = Mapping::parse(text, path).map_err(|e| e.to_string());
    let _ = Aliases::parse(text, path).map_err(|e| e.to_string());
});
