//! Which single change makes a run fit: tried one after the other, each computed like the run itself.

use serde::Serialize;
use vlft_base::{Result, format};
use vlft_model::Checkpointing;

use super::{Place, Problem};
use crate::config::{Base, Config, TooLong};

/// A change of the config after which the run fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// As a person would type it: `model.base = "nf4"`.
    pub set: Vec<String>,
    /// What is paid for it, in words; empty if nothing.
    pub price: String,
    pub total_bytes: u64,
}

/// The changes in the order in which they hurt: less memory for the same result first, then slower,
/// then fewer pixels, then fewer records. None: none of them alone is enough.
pub(super) fn first_that_fits(
    problem: &Problem,
    config: &Config,
    place: Place,
    available: u64,
) -> Result<Option<Change>> {
    let total = |config: &Config| -> Result<u64> {
        let (sizes, _) = problem.sizes(config)?;
        if sizes.is_empty() {
            return Ok(u64::MAX);
        }
        Ok(problem.solve(config, &sizes, place)?.memory.total_bytes)
    };
    for (changed, set, price) in simple_changes(config, place) {
        let total_bytes = total(&changed)?;
        if total_bytes <= available {
            return Ok(Some(Change {
                set,
                price,
                total_bytes,
            }));
        }
    }
    let fewer_pixels = |pixels: u64| {
        let mut changed = config.clone();
        changed.data.max_pixels = Some(pixels);
        changed
    };
    let pixels = config
        .data
        .max_pixels
        .unwrap_or(problem.processor.contract().max_pixels);
    let lowest = config
        .data
        .min_pixels
        .unwrap_or(problem.processor.contract().min_pixels);
    // In steps of what a token of an image is.
    let token = u64::from(problem.processor.image_token_pixels());
    let fits =
        |steps: u64| -> Result<bool> { Ok(total(&fewer_pixels(steps * token))? <= available) };
    if let Some(steps) = largest_that(lowest.div_ceil(token), pixels / token, fits)? {
        let pixels = steps * token;
        return Ok(Some(Change {
            set: vec![format!("data.max_pixels = {pixels}")],
            price: "pages are shown smaller".to_owned(),
            total_bytes: total(&fewer_pixels(pixels))?,
        }));
    }
    let shorter = |tokens: u64| {
        let mut changed = config.clone();
        changed.data.max_tokens = Some(tokens as usize);
        changed.data.too_long = TooLong::Drop;
        if changed.data.packing {
            changed.data.pack_tokens = Some(tokens as usize);
        }
        changed
    };
    let (sizes, _) = problem.sizes(config)?;
    let longest = sizes
        .iter()
        .map(|size| size.tokens as u64)
        .max()
        .unwrap_or(0);
    let fits = |tokens: u64| -> Result<bool> { Ok(total(&shorter(tokens))? <= available) };
    Ok(match largest_that(1, longest, fits)? {
        None => None,
        Some(tokens) => {
            let changed = shorter(tokens);
            let (_, dropped) = problem.sizes(&changed)?;
            let mut set = vec![
                format!("data.max_tokens = {tokens}"),
                "data.too_long = \"drop\"".to_owned(),
            ];
            if config.data.packing {
                set.push(format!("data.pack_tokens = {tokens}"));
            }
            Some(Change {
                set,
                price: format!("{} left out", format::count(dropped, "record")),
                total_bytes: total(&changed)?,
            })
        }
    })
}

/// What can be tried without searching: the changed config, the keys, and the price.
fn simple_changes(config: &Config, place: Place) -> Vec<(Config, Vec<String>, String)> {
    let mut changes = Vec::new();
    let mut add = |set: Vec<String>, price: &str, change: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        change(&mut changed);
        changes.push((changed, set, price.to_owned()));
    };
    let (model, train, data) = (&config.model, &config.train, &config.data);
    if model.base == Base::F32 {
        add(
            vec!["model.base = \"bf16\"".into()],
            "weights are rounded to 16 bits",
            &|c| {
                c.model.base = Base::Bf16;
            },
        );
    }
    if model.base != Base::Nf4 {
        add(
            vec!["model.base = \"nf4\"".into()],
            "weights are rounded to 4 bits",
            &|c| {
                c.model.base = Base::Nf4;
            },
        );
    }
    if !train.gradient_checkpointing {
        add(
            vec!["train.gradient_checkpointing = true".into()],
            "a third slower",
            &|c| {
                c.train.gradient_checkpointing = true;
            },
        );
    }
    if train.micro_batch > 1 {
        let accumulate = train.micro_batch * train.accumulate;
        let mut set = vec![
            "train.micro_batch = 1".to_owned(),
            format!("train.accumulate = {accumulate}"),
        ];
        if data.group_by_length {
            set.push("data.group_by_length = false".to_owned());
        }
        add(set, "", &|c| {
            c.train.micro_batch = 1;
            c.train.accumulate = accumulate;
            c.data.group_by_length = false;
        });
    }
    let is_offloading = train.checkpointing() == Checkpointing::Offloaded;
    if place == Place::Gpu && train.gradient_checkpointing && !is_offloading {
        add(
            vec!["train.activation_offloading = true".into()],
            "a few percent slower, pinned memory of the host",
            &|c| c.train.activation_offloading = true,
        );
    }
    if data.packing {
        add(
            vec!["data.packing = false".into()],
            "short records fill no rows together",
            &|c| {
                c.data.packing = false;
            },
        );
    }
    changes
}

/// The largest number of a range that `fits`, if larger ones do not fit once a smaller one does not.
fn largest_that(least: u64, most: u64, fits: impl Fn(u64) -> Result<bool>) -> Result<Option<u64>> {
    if least > most || !fits(least)? {
        return Ok(None);
    }
    let (mut good, mut bad) = (least, most + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match fits(middle)? {
            true => good = middle,
            false => bad = middle,
        }
    }
    Ok(Some(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_the_border() {
        for border in 3..40 {
            let found = largest_that(3, 30, |n| Ok(n <= border)).unwrap();
            assert_eq!(found, Some(border.min(30)));
        }
        assert_eq!(largest_that(3, 30, |_| Ok(false)).unwrap(), None);
        assert_eq!(largest_that(4, 3, |_| Ok(true)).unwrap(), None);
    }
}
