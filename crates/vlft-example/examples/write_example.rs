//! Writes what the generator makes into the checkout: `examples/bill-of-lading`, and the smallest
//! dataset, `examples/example.jsonl`, and the README's picture of a page.
//!
//!     cargo run -p vlft-example --example write_example

use std::path::Path;

use vlft_base::output::{Existing, write_atomic};
use vlft_example::documents::{Options, generate, showcase, write_smallest};

fn main() -> vlft_base::Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let options = Options {
        existing: Existing::Replace,
        ..Options::default()
    };
    generate(&options, &examples.join("bill-of-lading"))?;
    write_smallest(&examples)?;
    write_atomic(
        &examples.join("../docs/pictures/page-and-answer.jpg"),
        &showcase(),
    )
}
