//! `--data`: the adapter on its 4-bit base before the merge, the merged model after it.

use std::path::Path;

use vlft_base::Result;
use vlft_checkpoint::merge::MergeReport;
use vlft_train::eval::Event;
use vlft_train::merged::{Options, Trained};

use super::Args;
use crate::terminal::{Progress, Terminal};

/// What was asked for, and the bar that goes on when the merge is done.
pub(super) struct Difference<'a> {
    trained: Trained,
    terminal: &'a Terminal,
}

pub(super) fn before<'a>(
    args: &Args,
    adapter: &Path,
    terminal: &'a Terminal,
) -> Result<Option<Difference<'a>>> {
    let Some(data) = &args.data else {
        return Ok(None);
    };
    let options = Options {
        model: args.model.clone(),
        adapter: adapter.to_path_buf(),
        data: data.clone(),
        records: args.records as usize,
        device: args.device,
    };
    let trained = Trained::run(&options, &mut show(terminal))?;
    Ok(Some(Difference { trained, terminal }))
}

/// Adds to the report what was found, there and on the disk.
pub(super) fn after(
    difference: Option<Difference>,
    mut report: MergeReport,
    out: &Path,
) -> Result<MergeReport> {
    let Some(Difference { trained, terminal }) = difference else {
        return Ok(report);
    };
    let found = trained.compare(out, &mut show(terminal)).map_err(|e| {
        e.caused_by(format!(
            "the merged model in `{}` is whole; what it changes is not measured",
            out.display()
        ))
    })?;
    report.quantized_difference = Some(found);
    report.write(out)?;
    Ok(report)
}

fn show(terminal: &Terminal) -> impl FnMut(Event) + '_ {
    let mut bar: Option<Progress> = None;
    move |event| match event {
        Event::Warning(warning) => terminal.diagnostic(&warning),
        Event::Progress { done, of } => bar
            .get_or_insert_with(|| terminal.progress("Measuring", "records", of))
            .set(done),
    }
}
