//! Two configs compared key by key, and which keys a run that has begun may change.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use vlft_base::{Diagnostic, Result, did_you_mean};

use super::Config;

/// One key with two values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// `train.learning_rate`
    pub key: String,
    /// `null`: the key is absent.
    pub was: Value,
    pub now: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| match value {
            Value::Null => "not set".to_owned(),
            value => format!("`{value}`"),
        };
        let (was, now) = (shown(&self.was), shown(&self.now));
        write!(f, "`{}` was {was}, is now {now}", self.key)
    }
}

/// Keys that a resumed run may change when asked to. Everything else decides what the finished
/// steps mean (the modules, the weights below them, which sample belongs to which step), so a run
/// with another value is another run. Paths may change when the content is the same: that is
/// checked on its own.
const CHANGEABLE: [&str; 24] = [
    "model.path",
    "model.nf4_cache",
    "data.train",
    "data.val",
    "data.on_error",
    "data.workers",
    "data.prefetch",
    "data.cache",
    "train.epochs",
    "train.max_steps",
    "train.learning_rate",
    "train.lr_ratio",
    "train.vision_learning_rate",
    "train.merger_learning_rate",
    "train.neftune_alpha",
    "lora.dropout",
    "train.schedule",
    "train.warmup_steps",
    "train.weight_decay",
    "train.betas",
    "train.eps",
    "train.max_grad_norm",
    "train.gradient_checkpointing",
    "train.activation_offloading",
];

/// Tables whose keys say how a run is watched and kept, not what it computes.
const CHANGEABLE_TABLES: [&str; 2] = ["eval", "output"];

fn is_changeable(key: &str) -> bool {
    let table = key.split('.').next().unwrap_or(key);
    CHANGEABLE.contains(&key) || CHANGEABLE_TABLES.contains(&table)
}

/// Refuses names in `--allow-changed` that no key has, or that no run may change.
pub fn check_changeable(keys: &[String]) -> Result<()> {
    let known: Vec<String> = Config::keys()
        .iter()
        .map(|known| format!("{}.{}", known.table, known.key))
        .collect();
    let names = || known.iter().map(String::as_str);
    let changeable = || names().filter(|key| is_changeable(key));
    let problems = keys.iter().filter_map(|key| {
        if !known.contains(key) {
            let unknown = Diagnostic::error(format!("unknown key `{key}`"))
                .at(format!("--allow-changed {key}"));
            return Some(match did_you_mean(key, names()) {
                Some(near) => unknown.hint(format!("did you mean `{near}`?")),
                None => unknown.expected(vlft_base::one_of(changeable())),
            });
        }
        (!is_changeable(key)).then(|| {
            Diagnostic::error(format!("`{key}` cannot change within a run"))
                .at(format!("--allow-changed {key}"))
                .expected(vlft_base::one_of(changeable()))
                .hint("another value is another run: choose another `--out`")
        })
    });
    Diagnostic::all(problems.collect::<Vec<_>>()).map_or(Ok(()), Err)
}

impl Config {
    /// Every key whose value is another one in `now`, in the order of the file.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let json = |config: &Self| {
            serde_json::to_value(config).expect("plain structs of numbers and strings")
        };
        let (old, new) = (json(self), json(now));
        let keys = Self::keys().into_iter();
        let all = keys.map(|known| Change {
            key: format!("{}.{}", known.table, known.key),
            was: old[known.table][known.key].clone(),
            now: new[known.table][known.key].clone(),
        });
        all.filter(|change| change.was != change.now).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Base;

    #[test]
    fn changes_are_told_by_key() {
        let old = Config::new("m", Base::F32, "t.jsonl");
        let mut new = old.clone();
        assert_eq!(old.changes(&new), []);
        new.lora.rank = 8;
        new.data.val = Some("v.jsonl".into());
        new.train.max_steps = Some(3);
        let told: Vec<String> = old.changes(&new).iter().map(Change::to_string).collect();
        assert_eq!(
            told,
            [
                "`lora.rank` was `16`, is now `8`",
                "`data.val` was not set, is now `\"v.jsonl\"`",
                "`train.max_steps` was not set, is now `3`",
            ]
        );
    }

    #[test]
    fn every_changeable_key_exists_and_others_are_refused() {
        let all: Vec<String> = CHANGEABLE.map(str::to_owned).to_vec();
        assert!(check_changeable(&all).is_ok());
        assert!(check_changeable(&["eval.every_steps".into(), "output.keep".into()]).is_ok());
        for refused in [
            "lora.rank",
            "lora.targets",
            "train.seed",
            "model.base",
            "data.shuffle",
        ] {
            let error = check_changeable(&[refused.to_owned()]).unwrap_err();
            assert_eq!(
                error.message(),
                format!("`{refused}` cannot change within a run")
            );
        }
        let error = check_changeable(&["train.learning_rat".into()]).unwrap_err();
        assert_eq!(
            error.hint_text(),
            Some("did you mean `train.learning_rate`?")
        );
    }
}
