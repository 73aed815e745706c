//! Writes what the generator makes into the checkout: `examples/bill-of-lading`, and the smallest
//! dataset, `examples/example.jsonl`.
//!
//!     cargo run -p vlft-example --example write_example

use std::path::Path;

use vlft_base::output::Existing;
use vlft_example::documents::{Options, generate, write_smallest};

fn main() -> vlft_base::Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let options = Options {
        existing: Existing::Replace,
        ..Options::default()
    };
    generate(&options, &examples.join("bill-of-lading"))?;
    write_smallest(&examples)
}
