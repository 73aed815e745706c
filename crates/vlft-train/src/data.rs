//! What a run is fed with: both files opened and checked before anything is computed or written.

use std::path::Path;
use std::sync::Arc;

use vlft_base::{Diagnostic, Result, format};
use vlft_checkpoint::Config as ModelConfig;
use vlft_processor::image_cache::CacheReport;
use vlft_processor::processor::{Options as Limits, Processor};

use crate::config::{Config, OnError};
use crate::device::Device;
use crate::loading::Workers;
use crate::order::Order;
use crate::samples::{Dropped, Limit, Samples};

/// The records of a run.
pub(crate) struct Data {
    pub(crate) train: Arc<Samples>,
    pub(crate) val: Option<Arc<Samples>>,
    pub(crate) order: Order,
    pub(crate) workers: Workers,
    /// Too long, and left out because the config says so.
    pub(crate) dropped: Vec<Dropped>,
    /// What the cache of images was good for, if there is one.
    pub(crate) cache: Option<CacheReport>,
    /// What is allowed and may surprise.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// The processor of the model with the limits that the config asks for.
pub(crate) fn without_cache(config: &Config) -> Result<Processor> {
    let limits = Limits {
        min_pixels: config.data.min_pixels,
        max_pixels: config.data.max_pixels,
    };
    Processor::from_dir(&config.model.path, &limits)
}

/// The same, with the cache that the config asks for.
pub(crate) fn processor(config: &Config) -> Result<Arc<Processor>> {
    let processor = without_cache(config)?;
    Ok(Arc::new(match &config.data.cache {
        None => processor,
        Some(dir) => processor.with_cache(dir)?,
    }))
}

/// Makes every record of both files into a sample once, and says all that is wrong. Once a run has
/// begun, `data.on_error` decides about training records that have broken since.
pub(crate) fn open(
    config: &Config,
    processor: &Arc<Processor>,
    model: &ModelConfig,
    has_begun: bool,
    device: Device,
) -> Result<Data> {
    let data = &config.data;
    let open = |path: &Path, key, max_tokens, broken| {
        let limit = Limit {
            max_tokens,
            key,
            too_long: data.too_long,
            broken,
        };
        let (mut samples, dropped) = Samples::open(path, processor, model, limit)?;
        samples.fill_up_to(device.row_multiple());
        Ok::<_, Diagnostic>((samples, dropped))
    };
    const MAX_TOKENS: &str = "data.max_tokens";
    let (key, longest) = match (data.packing, data.max_tokens) {
        (true, None) => ("data.pack_tokens", data.pack_tokens),
        (_, max_tokens) => (MAX_TOKENS, max_tokens),
    };
    // Groups by length need every length, and nobody knows that of a broken record.
    let broken = match has_begun && !data.packing && !data.group_by_length {
        true => data.on_error,
        false => OnError::Error,
    };
    let (mut train, mut dropped) = open(&data.train, key, longest, broken)?;
    let val = match &data.val {
        None => None,
        Some(path) => {
            let (val, more) = open(path, MAX_TOKENS, data.max_tokens, OnError::Error)?;
            dropped.extend(more);
            Some(Arc::new(val))
        }
    };
    let mut warnings = weights(config, &mut train)?;
    warnings.extend(without_validation(config));
    warnings.extend(processor.cache_warnings());
    if data.packing {
        train.pack();
    }
    Ok(Data {
        order: Order::new(train.lengths(), data, &config.train),
        train: Arc::new(train),
        val,
        workers: Workers::new(data.workers, data.prefetch)?,
        dropped,
        cache: processor.cache_report(),
        warnings,
    })
}

/// Takes out the records that count nothing, and tells of weights that cannot count. Validation
/// records keep all the same weight, so that a loss means the same in every run.
fn weights(config: &Config, train: &mut Samples) -> Result<Vec<Diagnostic>> {
    let mut warnings = Vec::new();
    let weightless = train.leave_out_weightless()?;
    if weightless > 0 {
        let count = format::count(weightless, "record");
        warnings.push(
            Diagnostic::warning(format!("{count} left out: `meta.weight` is 0"))
                .at(&config.data.train),
        );
    }
    if train.weighted() && config.train.micro_batch * config.train.accumulate == 1 {
        warnings.push(
            Diagnostic::warning("`meta.weight` has no effect: every step sees one record")
                .at(&config.data.train)
                .hint("a weight counts against the other records of its step; raise `train.accumulate`"),
        );
    }
    Ok(warnings)
}

/// What `[eval]` asks for in vain.
fn without_validation(config: &Config) -> Option<Diagnostic> {
    let eval = &config.eval;
    let asked = [
        (eval.patience > 0, "`eval.patience`"),
        (eval.samples > 0, "`eval.samples`"),
        (eval.generate_records > 0, "`eval.generate_records`"),
    ];
    let (_, key) = asked.into_iter().find(|(asked, _)| *asked)?;
    config.data.val.is_none().then(|| {
        Diagnostic::warning(format!(
            "{key} has no effect: there is nothing to evaluate on"
        ))
        .hint("name the records with `data.val`")
    })
}
