//! The sidecar of what is made from models and adapters, as the data commands leave one beside theirs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vlft_base::Result;
use vlft_base::output::cannot;
use vlft_checkpoint::ADAPTER_FILES;
use vlft_dataset::lineage::Lineage;

/// Adds an adapter, a folder or an archive of one.
pub(super) fn with_adapter(mut lineage: Lineage, adapter: &Path) -> Result<Lineage> {
    if !adapter.is_dir() {
        return lineage.input("adapter", adapter);
    }
    for name in ADAPTER_FILES {
        lineage = lineage.input("adapter", &adapter.join(name))?;
    }
    Ok(lineage)
}

/// Adds the weights of a model that were hashed while they were read.
pub(super) fn with_weights(
    mut lineage: Lineage,
    model: &Path,
    hashes: &BTreeMap<String, String>,
) -> Result<Lineage> {
    for (name, sha256) in hashes {
        let path = model.join(name);
        let file = fs::metadata(&path).map_err(|e| cannot("read", &path, e))?;
        lineage = lineage.hashed_input("base", &path, sha256.clone(), file.len())?;
    }
    Ok(lineage)
}
