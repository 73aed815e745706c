//! The flags of `vllm serve` that an adapter needs, and those that somebody serves with.

use std::path::Path;

use super::versions::Version;

/// What somebody passes to `vllm serve`, as far as it decides over adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) enable_lora: bool,
    pub(crate) max_lora_rank: Result<usize, String>,
    pub(crate) tower: bool,
    pub(crate) mm_processor_kwargs: bool,
}

impl Served {
    pub(crate) fn parse(flags: &str, version: &Version) -> Self {
        let mut words = Vec::new();
        for word in flags.split_whitespace() {
            match word.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => words.extend([flag, value]),
                _ => words.push(word),
            }
        }
        // vLLM takes both spellings.
        let words: Vec<String> = words.iter().map(|word| word.replace('_', "-")).collect();
        let has = |flag: &str| words.iter().any(|word| word == flag);
        let rank = words.iter().position(|word| word == "--max-lora-rank");
        let rank = rank.map(|at| words.get(at + 1).cloned().unwrap_or_default());
        Self {
            enable_lora: has("--enable-lora"),
            max_lora_rank: match rank {
                None => Ok(version.default_rank),
                Some(text) => text.parse().map_err(|_| text),
            },
            tower: version.tower_flag.is_some_and(has),
            mm_processor_kwargs: has("--mm-processor-kwargs"),
        }
    }
}

/// For a shell: quoted where something in it would be read otherwise.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A name to serve the adapter under.
pub(crate) fn adapter_name(dir: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let parents = [Some(dir), dir.parent()];
    let mut names = parents.into_iter().flatten().filter_map(name);
    // `runs/bol-01/adapter` is better known as `bol-01`.
    names
        .find(|n| !["adapter", "best", "."].contains(&n.as_str()))
        .unwrap_or_else(|| "adapter".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_both_spellings() {
        let version = Version::named("0.33").unwrap();
        let served = Served::parse("--enable-lora --max-lora-rank=24", version);
        assert_eq!(
            (served.enable_lora, served.max_lora_rank, served.tower),
            (true, Ok(24), false)
        );
        let served = Served::parse("--max_lora_rank 64 --enable_tower_connector_lora", version);
        assert_eq!(
            (served.enable_lora, served.max_lora_rank, served.tower),
            (false, Ok(64), true)
        );
        let served = Served::parse("--max-lora-rank", version);
        assert!(served.max_lora_rank.is_err());
    }

    #[test]
    fn a_command_can_be_pasted() {
        assert_eq!(quoted("runs/a-1/adapter"), "runs/a-1/adapter");
        assert_eq!(quoted("my runs/it's"), r"'my runs/it'\''s'");
        assert_eq!(adapter_name(Path::new("runs/bol-01/adapter")), "bol-01");
    }
}
