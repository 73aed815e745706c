//! `examples/example.jsonl`: the smallest dataset worth looking at, two pages with their answers.

use std::fs;
use std::path::Path;

use serde_json::json;
use vlft_base::Result;
use vlft_base::output::{cannot, write_atomic};

use super::bill::Bill;
use super::labels;
use super::layout::Layout;
use crate::dice::Dice;
use crate::page::scan::{Scanner, scan};

/// What the model is asked. The same words stand in `configs/bill-of-lading.mapping.toml`.
pub const PROMPT: &str = "Read the pages of this bill of lading and answer with one JSON object. \
    Use null for what the pages do not say.";

/// Not the seed of the big set, or its documents would come twice.
const SEED: u64 = 1;

/// Writes `example.jsonl` and `images/` into `dir`, replacing what was there.
pub fn write_smallest(dir: &Path) -> Result<()> {
    let images = dir.join("images");
    fs::create_dir_all(&images).map_err(|e| cannot("create", &images, e))?;
    let mut lines = String::new();
    for (index, layout) in [Layout::Letter, Layout::House].into_iter().enumerate() {
        let mut dice = Dice::new(SEED, index as u64);
        let bill = Bill::draw(1, &mut dice);
        let scanner = Scanner {
            dpi: 72,
            quality: 60,
            colour: false,
            worn: false,
        };
        let pages = layout.pages(&bill, &mut dice);
        let name = format!("images/{}.jpg", bill.number);
        write_atomic(&dir.join(&name), &scan(&pages[0], &scanner, &mut dice).jpeg)?;
        let record = json!({
            "id": bill.number,
            "messages": [
                { "role": "user", "content": [
                    { "type": "image", "image": name },
                    { "type": "text", "text": PROMPT }
                ] },
                { "role": "assistant", "content": [
                    { "type": "text", "text": labels::answer(&bill).to_string() }
                ] }
            ]
        });
        lines.push_str(&record.to_string());
        lines.push('\n');
    }
    write_atomic(&dir.join("example.jsonl"), lines.as_bytes())
}
