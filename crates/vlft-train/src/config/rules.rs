//! Rules between keys. Rules of one key are beside that key.

use vlft_base::Diagnostic;
use vlft_checkpoint::LoraTargets;

use super::reader::Reader;
use super::{Base, BestMetric, Config};

impl Config {
    pub(super) fn check_together(&self, reader: &mut Reader) {
        if let (Some(min), Some(max)) = (self.data.min_pixels, self.data.max_pixels)
            && min > max
        {
            let wrong = Diagnostic::error("`data.min_pixels` is above `data.max_pixels`")
                .expected(format!("at least {min}"))
                .found(max.to_string());
            reader.section("data").problem("max_pixels", wrong);
        }
        self.check_packing(reader);
        if self.model.base == Base::Nf4 && self.model.quantize.is_empty() {
            let wrong =
                Diagnostic::error("`model.quantize` is empty: nothing would be in four bits")
                    .hint("leave the key out, or choose `model.base = \"bf16\"`");
            reader.section("model").problem("quantize", wrong);
        }
        let no_targets = self.lora.targets == LoraTargets::Names(Vec::new());
        if no_targets && !self.lora.vision && !self.lora.merger {
            let wrong = Diagnostic::error("nothing would be trained: `lora.targets` is empty")
                .hint("name at least one target, or set `lora.vision = true`");
            reader.section("lora").problem("targets", wrong);
        }
        if self.eval.best_metric == BestMetric::FieldAccuracy && self.eval.answers() == 0 {
            let wrong = Diagnostic::error("`eval.best_metric` needs answers, and none are made")
                .hint("set `eval.generate_records` to how many records are answered");
            reader.section("eval").problem("best_metric", wrong);
        }
        if self.eval.patience > 0 && self.eval.every_steps == 0 {
            let wrong = Diagnostic::error("`eval.patience` needs evaluations while training")
                .expected("`eval.every_steps` above 0")
                .found("0");
            reader.section("eval").problem("patience", wrong);
        }
    }

    /// What packing needs, and what does not go with it.
    fn check_packing(&self, reader: &mut Reader) {
        let data = &self.data;
        let mut wrong = |key, problem| reader.section("data").problem(key, problem);
        if data.group_by_length && data.packing {
            let problem = Diagnostic::error("packed rows have no padding to save")
                .hint("leave out `data.group_by_length`");
            wrong("group_by_length", problem);
        } else if data.group_by_length && self.train.micro_batch == 1 {
            let problem = Diagnostic::error(
                "`data.group_by_length` with one sample in a micro-batch",
            )
            .hint("raise `train.micro_batch`, or leave it out: there is no padding to save");
            wrong("group_by_length", problem);
        }
        if !data.packing {
            return;
        }
        match (data.row_tokens(), data.max_tokens) {
            (None, _) => wrong(
                "packing",
                Diagnostic::error("`data.packing` does not say how long a row may be")
                    .hint("set `data.pack_tokens`, such as 4096, or `data.max_tokens`"),
            ),
            (Some(row), Some(max)) if row < max => wrong(
                "pack_tokens",
                Diagnostic::error("`data.pack_tokens` is below `data.max_tokens`")
                    .expected(format!("at least {max}"))
                    .found(row.to_string()),
            ),
            _ => {}
        }
        // Every epoch is packed anew, and all of them are counted before the first step.
        const MOST_EPOCHS: u64 = 10_000;
        if self.train.epochs > MOST_EPOCHS && self.train.max_steps.is_none() {
            let problem = Diagnostic::error("too many epochs to plan the packed rows of")
                .expected(format!("at most {MOST_EPOCHS}"))
                .found(self.train.epochs.to_string())
                .hint("set `train.max_steps`");
            reader.section("train").problem("epochs", problem);
        }
    }
}
