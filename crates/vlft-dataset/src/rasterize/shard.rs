//! Which part of the documents is ours, when many machines share the work. Static and pure: a
//! document's part is decided by its name alone, so nobody has to be asked, a part that is done twice
//! gives the same files, and adding documents moves none.

use std::str::FromStr;

use serde::Serialize;
use sha2::{Digest, Sha256};
use vlft_base::{Diagnostic, Result};

/// This process does documents whose name hashes to `index` of `count`; 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    pub index: u32,
    pub count: u32,
}

impl Shard {
    pub(super) fn has(self, document: &str) -> bool {
        let digest = Sha256::digest(document.as_bytes());
        let head = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        head % u64::from(self.count) == u64::from(self.index - 1)
    }
}

/// `--shard I/N`, `--shard auto` or `--shard auto/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardChoice {
    Exactly(Shard),
    /// The environment tells the index, and the count unless it is given.
    Auto(Option<u32>),
}

impl FromStr for ShardChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (index, count) = match text.split_once('/') {
            Some((index, count)) => (index, Some(count)),
            None => (text, None),
        };
        let number = |text: &str| text.parse::<u32>().ok();
        match (index, count.map(number)) {
            ("auto", None) => Ok(Self::Auto(None)),
            ("auto", Some(Some(count @ 1..))) => Ok(Self::Auto(Some(count))),
            (index, Some(Some(count))) => match number(index) {
                Some(0) => Err("shards are counted from 1: the first of 8 is `1/8`".to_owned()),
                Some(index) if index <= count => Ok(Self::Exactly(Shard { index, count })),
                _ => Err(WRITTEN.to_owned()),
            },
            _ => Err(WRITTEN.to_owned()),
        }
    }
}

const WRITTEN: &str = "a shard is written `I/N` (the first of 8 is `1/8`), `auto` or `auto/N`";

/// Where an engine that starts N copies says which copy this is.
struct Engine {
    name: &'static str,
    index: &'static str,
    /// `None`: the engine does not tell.
    count: Option<&'static str>,
}

const fn engine(name: &'static str, index: &'static str, count: &'static str) -> Engine {
    Engine {
        name,
        index,
        count: Some(count),
    }
}

/// All of them count from 0; a Slurm array from whatever `--array` says, see [`slurm_array`].
const ENGINES: [Engine; 11] = [
    Engine {
        name: "Kubernetes Indexed Job",
        index: "JOB_COMPLETION_INDEX",
        count: None,
    },
    engine("SkyPilot jobs", "SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS"),
    engine("SkyPilot nodes", "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"),
    engine("Slurm tasks", "SLURM_PROCID", "SLURM_NTASKS"),
    engine(
        "AWS Batch array",
        "AWS_BATCH_JOB_ARRAY_INDEX",
        "AWS_BATCH_JOB_ARRAY_SIZE",
    ),
    engine("Google Batch", "BATCH_TASK_INDEX", "BATCH_TASK_COUNT"),
    engine(
        "Cloud Run job",
        "CLOUD_RUN_TASK_INDEX",
        "CLOUD_RUN_TASK_COUNT",
    ),
    engine("Azure ML or torch rank", "RANK", "WORLD_SIZE"),
    engine("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    engine("MPI", "PMI_RANK", "PMI_SIZE"),
    engine("vlft", "VLFT_SHARD_INDEX", "VLFT_SHARD_COUNT"),
];

/// What the environment said, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardSource {
    pub engine: &'static str,
    /// The variable that had the index.
    pub variable: &'static str,
}

impl ShardChoice {
    /// The shard, and who said so. `variable` looks up an environment variable.
    ///
    /// # Errors
    /// `auto` without an engine that says which copy this is, or of how many; two that disagree.
    pub fn resolve(
        self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Shard, Option<ShardSource>)> {
        let count = match self {
            Self::Exactly(shard) => return Ok((shard, None)),
            Self::Auto(count) => count,
        };
        let mut found = Vec::new();
        found.extend(slurm_array(variable, count)?);
        for engine in &ENGINES {
            found.extend(ask(engine, variable, count)?);
        }
        // An engine that says "the only one" has no say beside one that splits the work: SkyPilot on
        // one node of each of ten jobs, `srun` within a Slurm array.
        if found.iter().any(|(shard, _)| shard.count > 1) {
            found.retain(|(shard, _)| shard.count > 1);
        }
        let Some((first, source)) = found.first().cloned() else {
            return Err(nobody_says());
        };
        if let Some((other, by)) = found.iter().find(|(shard, _)| *shard != first) {
            return Err(Diagnostic::error(
                "two engines say which shard this is, and they disagree",
            )
            .expected(said(first, &source))
            .found(said(*other, by))
            .hint("give the shard itself: `--shard I/N`"));
        }
        Ok((first, Some(source)))
    }
}

fn said(shard: Shard, by: &ShardSource) -> String {
    let Shard { index, count } = shard;
    format!("`{index}/{count}` ({}, `{}`)", by.engine, by.variable)
}

fn nobody_says() -> Diagnostic {
    let names: Vec<String> = std::iter::once("SLURM_ARRAY_TASK_ID")
        .chain(ENGINES.iter().map(|engine| engine.index))
        .map(|name| format!("`{name}`"))
        .collect();
    Diagnostic::error(
        "`--shard auto` finds nothing in the environment that says which copy this is",
    )
    .expected(format!("one of {}", names.join(", ")))
    .hint("give the shard itself: `--shard I/N`")
}

fn ask(
    engine: &Engine,
    variable: &dyn Fn(&str) -> Option<String>,
    count: Option<u32>,
) -> Result<Option<(Shard, ShardSource)>> {
    let Some(index) = number(engine.index, variable)? else {
        return Ok(None);
    };
    let told = match engine.count {
        Some(name) => number(name, variable)?,
        None => None,
    };
    let source = ShardSource {
        engine: engine.name,
        variable: engine.index,
    };
    // A rank without its world is of no use, and not rare: somebody's own `RANK`.
    let Some(of) = count.or(told) else {
        return match engine.count {
            Some(_) => Ok(None),
            None => Err(Diagnostic::error(format!(
                "{} tells the index of this copy, but not how many there are",
                engine.name
            ))
            .hint("pass `--shard auto/N` with the Job's `completions` as N")),
        };
    };
    shard(index, of, told, source).map(Some)
}

/// A Slurm array may start anywhere and go in steps (`--array=1-100`, `--array=0-30:3`).
fn slurm_array(
    variable: &dyn Fn(&str) -> Option<String>,
    count: Option<u32>,
) -> Result<Option<(Shard, ShardSource)>> {
    const ID: &str = "SLURM_ARRAY_TASK_ID";
    let Some(id) = number(ID, variable)? else {
        return Ok(None);
    };
    let get = |name| number(name, variable);
    let min = get("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
    let max = get("SLURM_ARRAY_TASK_MAX")?.unwrap_or(id);
    let step = get("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
    let told = get("SLURM_ARRAY_TASK_COUNT")?;
    let span = max.saturating_sub(min) / step + 1;
    let source = ShardSource {
        engine: "Slurm array",
        variable: ID,
    };
    // `--array=1,5,7`: which of three is 5? And a task that is run again alone (`--array=5`) must not
    // take itself for the only one.
    let is_odd_one = span == 1 && id > 1;
    if is_odd_one
        || told.is_some_and(|told| told != span)
        || id < min
        || !(id - min).is_multiple_of(step)
    {
        return Err(Diagnostic::error(
            "this Slurm array has gaps, so `--shard auto` cannot tell which part is whose",
        )
        .expected("`--array=0-N` or `--array=1-N`")
        .hint("give the shard itself: `--shard $SLURM_ARRAY_TASK_ID/N`"));
    }
    shard((id - min) / step, count.unwrap_or(span), told, source).map(Some)
}

/// From an index that counts from 0.
fn shard(
    index: u32,
    count: u32,
    told: Option<u32>,
    source: ShardSource,
) -> Result<(Shard, ShardSource)> {
    if let Some(told) = told.filter(|told| *told != count) {
        return Err(
            Diagnostic::error(format!("{} runs {told} copies", source.engine))
                .expected(format!("`--shard auto/{told}` or `--shard auto`"))
                .found(format!("`--shard auto/{count}`")),
        );
    }
    if index >= count {
        return Err(Diagnostic::error(format!(
            "{} says that this is copy {index} of {count}, counted from 0",
            source.engine
        ))
        .expected(format!("`{}` below {count}", source.variable))
        .hint("give the number of copies that are started: `--shard auto/N`"));
    }
    let shard = Shard {
        index: index + 1,
        count,
    };
    Ok((shard, source))
}

fn number(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<u32>> {
    let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Diagnostic::error(format!("`{name}` is not a number"))
            .expected("a whole number")
            .found(format!("`{text}`"))
            .hint("give the shard itself: `--shard I/N`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_written_i_of_n_from_one() {
        use ShardChoice::{Auto, Exactly};
        assert_eq!("2/8".parse(), Ok(Exactly(Shard { index: 2, count: 8 })));
        assert_eq!("auto".parse(), Ok(Auto(None)));
        assert_eq!("auto/8".parse(), Ok(Auto(Some(8))));
        for (text, expected) in [
            ("0/8", "counted from 1"),
            ("9/8", "written `I/N`"),
            ("2", "written `I/N`"),
            ("a/b", "written `I/N`"),
            ("auto/0", "written `I/N`"),
            ("auto/x", "written `I/N`"),
        ] {
            let error = text.parse::<ShardChoice>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_document_is_in_exactly_one_shard() {
        let mut counts = [0; 5];
        for n in 0..500 {
            let name = format!("scan {n}.pdf");
            let homes: Vec<u32> = (1..=5)
                .filter(|&index| Shard { index, count: 5 }.has(&name))
                .collect();
            assert_eq!(homes.len(), 1);
            counts[homes[0] as usize - 1] += 1;
        }
        assert!(counts.iter().all(|&n| n > 60), "{counts:?}");
    }

    /// `A=1 B=2` as an environment.
    fn resolve(choice: &str, environment: &str) -> Result<(String, Option<&'static str>)> {
        let choice: ShardChoice = choice.parse().unwrap();
        let variable = |name: &str| {
            let mut pairs = environment
                .split_whitespace()
                .filter_map(|p| p.split_once('='));
            pairs
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let (shard, source) = choice.resolve(&variable)?;
        let written = format!("{}/{}", shard.index, shard.count);
        Ok((written, source.map(|source| source.engine)))
    }

    #[test]
    fn the_environment_says_which_copy_this_is() {
        for (choice, environment, expected, engine) in [
            (
                "auto",
                "SLURM_ARRAY_TASK_ID=4 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=8 SLURM_ARRAY_TASK_COUNT=8 SLURM_PROCID=0 SLURM_NTASKS=1",
                "4/8",
                "Slurm array",
            ),
            (
                "auto",
                "SLURM_ARRAY_TASK_ID=6 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=9 SLURM_ARRAY_TASK_STEP=3 SLURM_ARRAY_TASK_COUNT=4",
                "3/4",
                "Slurm array",
            ),
            (
                "auto",
                "SLURM_PROCID=3 SLURM_NTASKS=4",
                "4/4",
                "Slurm tasks",
            ),
            (
                "auto/8",
                "JOB_COMPLETION_INDEX=0",
                "1/8",
                "Kubernetes Indexed Job",
            ),
            (
                "auto",
                "SKYPILOT_NODE_RANK=1 SKYPILOT_NUM_NODES=3",
                "2/3",
                "SkyPilot nodes",
            ),
            (
                "auto",
                "SKYPILOT_NODE_RANK=0 SKYPILOT_NUM_NODES=1 SKYPILOT_JOB_RANK=2 SKYPILOT_NUM_JOBS=5",
                "3/5",
                "SkyPilot jobs",
            ),
            (
                "auto",
                "RANK=7 WORLD_SIZE=8",
                "8/8",
                "Azure ML or torch rank",
            ),
            (
                "auto",
                "RANK=1 WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4",
                "2/4",
                "Azure ML or torch rank",
            ),
            (
                "auto",
                "AWS_BATCH_JOB_ARRAY_INDEX=1 AWS_BATCH_JOB_ARRAY_SIZE=2 RANK=5",
                "2/2",
                "AWS Batch array",
            ),
            (
                "auto",
                "VLFT_SHARD_INDEX=0 VLFT_SHARD_COUNT=1",
                "1/1",
                "vlft",
            ),
            ("auto/4", "RANK=2", "3/4", "Azure ML or torch rank"),
        ] {
            assert_eq!(
                resolve(choice, environment).unwrap(),
                (expected.to_owned(), Some(engine)),
                "{environment}"
            );
        }
        assert_eq!(
            resolve("2/3", "RANK=7 WORLD_SIZE=8").unwrap(),
            ("2/3".to_owned(), None)
        );
    }

    #[test]
    fn what_is_not_sure_is_an_error() {
        for (choice, environment, expected) in [
            ("auto", "", "finds nothing in the environment"),
            ("auto", "RANK=3", "finds nothing in the environment"),
            ("auto", "JOB_COMPLETION_INDEX=3", "not how many there are"),
            ("auto/3", "JOB_COMPLETION_INDEX=3", "copy 3 of 3"),
            ("auto/3", "RANK=1 WORLD_SIZE=8", "runs 8 copies"),
            ("auto", "RANK=one WORLD_SIZE=8", "`RANK` is not a number"),
            (
                "auto",
                "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=7 SLURM_ARRAY_TASK_COUNT=3",
                "has gaps",
            ),
            (
                "auto",
                "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_MAX=5 SLURM_ARRAY_TASK_COUNT=1",
                "has gaps",
            ),
            (
                "auto",
                "RANK=1 WORLD_SIZE=8 SKYPILOT_NODE_RANK=1 SKYPILOT_NUM_NODES=2",
                "they disagree",
            ),
        ] {
            let error = resolve(choice, environment).unwrap_err();
            assert!(error.message().contains(expected), "{environment}: {error}");
        }
    }
}
