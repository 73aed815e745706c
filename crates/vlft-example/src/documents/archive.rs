//! Zips of page images, equal to the byte on every system: entries are stored (a JPEG does not
//! shrink), carry the date of the format's beginning, and say that a Unix made them.

use std::io::{Cursor, Write};

use vlft_base::{Diagnostic, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

pub(crate) fn pack(entries: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
        .system(System::Unix);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let failed =
        |e: &dyn std::fmt::Display| Diagnostic::error("cannot pack page images").caused_by(e);
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), options)
            .map_err(|e| failed(&e))?;
        zip.write_all(bytes).map_err(|e| failed(&e))?;
    }
    Ok(zip.finish().map_err(|e| failed(&e))?.into_inner())
}
