//! Writes what the generator makes into the checkout: the documents of `examples/bill-of-lading`.
//!
//!     cargo run -p vlft-example --example write_example

use std::path::Path;

use vlft_base::output::Existing;
use vlft_example::documents::{Options, generate};

fn main() -> vlft_base::Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let options = Options {
        existing: Existing::Replace,
        ..Options::default()
    };
    generate(&options, &examples.join("bill-of-lading"))?;
    Ok(())
}
