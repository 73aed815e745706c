use vlft_checkpoint::LoraTargets;

use super::*;

/// Loads `text` as `c.toml`, with overrides.
fn load(text: &str, overrides: &[&str]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
    Config::load(&path, &overrides)
}

/// All problems, one line each: `PLACE: message (expected .., found ..) hint`.
fn problems(text: &str, overrides: &[&str]) -> String {
    let first = load(text, overrides).expect_err("the config is wrong");
    let mut lines = Vec::new();
    for problem in std::iter::once(&first).chain(first.further()) {
        let place = problem.places()[0].to_string();
        let place = place.rsplit('/').next().unwrap();
        let mut line = format!("{place}: {}", problem.message());
        for part in [
            problem.expectation().map(shortened),
            problem.hint_text().map(str::to_owned),
        ] {
            line += &part.map_or(String::new(), |p| format!(" | {p}"));
        }
        for cause in problem.causes() {
            line += &format!(" | {cause}");
        }
        lines.push(line);
    }
    lines.join("\n")
}

const SMALLEST: &str = "[model]\npath = \"m\"\nbase = \"f32\"\n[data]\ntrain = \"t.jsonl\"\n";

/// The lists of keys grow: `..lora` stands for the whole list of `[lora]`.
fn shortened(expectation: String) -> String {
    ["lora", "train"].iter().fold(expectation, |text, table| {
        let keys = Config::keys();
        let keys = keys.iter().filter(|known| known.table == *table);
        let list: Vec<String> = keys.map(|known| format!("`{}`", known.key)).collect();
        text.replace(&list.join(", "), &format!("..{table}"))
    })
}

#[test]
fn the_smallest_config_has_the_documented_defaults() {
    let config = load(SMALLEST, &[]).unwrap();
    assert_eq!(config, Config::new("m", Base::F32, "t.jsonl"));
    // The list of DESIGN section 5, spelled out.
    let spelled_out = r#"
[model]
path = "m"
base = "f32"
double_quant = true
[lora]
rank = 16
alpha = 32
dropout = 0.0
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
vision = false
rslora = false
[data]
train = "t.jsonl"
too_long = "error"
on_error = "error"
shuffle = true
packing = false
group_by_length = false
workers = 2
prefetch = 4
[train]
epochs = 1
micro_batch = 1
accumulate = 16
learning_rate = 1e-4
schedule = "cosine"
warmup_steps = 10
weight_decay = 0.0
betas = [0.9, 0.999]
eps = 1e-8
max_grad_norm = 1.0
loss_average = "token"
gradient_checkpointing = true
seed = 42
[eval]
every_steps = 50
samples = 0
generate_records = 0
max_new_tokens = 256
best_metric = "loss"
patience = 0
min_delta = 0.0
[output]
checkpoint_every_steps = 100
keep = 2
"#;
    assert_eq!(load(spelled_out, &[]).unwrap(), config);
}

#[test]
fn every_key_is_read() {
    let text = r#"
[model]
path = 'models\x'
base = "nf4"
double_quant = false
quantize = ["language_model", "lm_head"]
nf4_cache = "cache"
compute = "bf16"
[lora]
rank = 8
alpha = 12.5
dropout = 0.05
targets = ["q_proj", "v_proj"]
vision = true
merger = true
rank_pattern = { "layers.0.*q_proj" = 4 }
alpha_pattern = { 'q_proj' = 6.5, "v" = 2 }
rslora = true
init = "runs/a/adapter"
[data]
train = "t.jsonl"
val = "v.jsonl"
min_pixels = 65_536
max_pixels = 1_310_720
max_tokens = 4096
too_long = "drop"
on_error = "skip"
shuffle = false
packing = true
pack_tokens = 8192
group_by_length = false
workers = 0
prefetch = 0
cache = "cache/pages"
[train]
epochs = 3
max_steps = 7
micro_batch = 2
accumulate = 4
learning_rate = 0.0002
lr_ratio = 16
vision_learning_rate = 1e-5
merger_learning_rate = 2e-5
schedule = "linear"
warmup_steps = 0
weight_decay = 0.01
betas = [0.8, 0]
eps = 1e-6
max_grad_norm = 0
loss_average = "micro_batch"
neftune_alpha = 5
gradient_checkpointing = false
activation_offloading = true
seed = 7
[eval]
every_steps = 5
samples = 2
generate_records = 20
max_new_tokens = 64
best_metric = "field_accuracy"
patience = 3
min_delta = 0.01
[output]
checkpoint_every_steps = 3
keep = 1
"#;
    let config = load(text, &[]).unwrap();
    let expected = Config {
        model: ModelConfig {
            path: r"models\x".into(),
            base: Base::Nf4,
            double_quant: false,
            quantize: vec![Part::LanguageModel, Part::LmHead],
            nf4_cache: Some("cache".into()),
            compute: Some(Compute::Bf16),
        },
        lora: LoraConfig {
            rank: 8,
            alpha: 12.5,
            dropout: 0.05,
            targets: LoraTargets::Names(vec!["q_proj".into(), "v_proj".into()]),
            vision: true,
            merger: true,
            rank_pattern: vec![("layers.0.*q_proj".into(), 4)],
            alpha_pattern: vec![("q_proj".into(), 6.5), ("v".into(), 2.0)],
            rslora: true,
            init: Some("runs/a/adapter".into()),
        },
        data: DataConfig {
            train: "t.jsonl".into(),
            val: Some("v.jsonl".into()),
            min_pixels: Some(65_536),
            max_pixels: Some(1_310_720),
            max_tokens: Some(4096),
            too_long: TooLong::Drop,
            on_error: OnError::Skip,
            shuffle: false,
            packing: true,
            pack_tokens: Some(8192),
            group_by_length: false,
            workers: 0,
            prefetch: 0,
            cache: Some("cache/pages".into()),
        },
        train: TrainConfig {
            epochs: 3,
            max_steps: Some(7),
            micro_batch: 2,
            accumulate: 4,
            learning_rate: 2e-4,
            lr_ratio: 16.0,
            vision_learning_rate: Some(1e-5),
            merger_learning_rate: Some(2e-5),
            schedule: Schedule::Linear,
            warmup_steps: 0,
            weight_decay: 0.01,
            betas: [0.8, 0.0],
            eps: 1e-6,
            max_grad_norm: 0.0,
            loss_average: LossAverage::MicroBatch,
            neftune_alpha: 5.0,
            gradient_checkpointing: false,
            activation_offloading: true,
            seed: 7,
        },
        eval: EvalConfig {
            every_steps: 5,
            samples: 2,
            generate_records: 20,
            max_new_tokens: 64,
            best_metric: BestMetric::FieldAccuracy,
            patience: 3,
            min_delta: 0.01,
        },
        output: OutputConfig {
            checkpoint_every_steps: 3,
            keep: 1,
        },
    };
    assert_eq!(config, expected);
    // What is written can be fed back, and means the same.
    let written = config.to_toml(Path::new("runs/a"));
    assert_eq!(load(&written, &[]).unwrap(), expected);
    assert!(written.starts_with("# The resolved config"), "{written}");
    assert!(written.contains("\n#   vlft train runs/a/config.toml --out runs/a\n"));
}

#[test]
fn the_written_defaults_can_be_fed_back() {
    let config = Config::new("a \"b\"\\c\nd", Base::Bf16, "t.jsonl");
    assert_eq!(load(&config.to_toml(Path::new("r")), &[]).unwrap(), config);
}

#[test]
fn overrides_win_in_their_order_and_need_no_quotes() {
    let config = load(
        SMALLEST,
        &[
            "train.learning_rate=2e-4",
            "model.base=bf16",
            "lora.rank=4",
            "lora.rank = 8",
            "data.train=2024",
            "data.val=a b/v.jsonl",
            "lora.targets=[\"q_proj\"]",
            "model.path=\"quoted\"",
        ],
    )
    .unwrap();
    assert_eq!(config.train.learning_rate, 2e-4);
    assert_eq!(config.model.base, Base::Bf16);
    assert_eq!(config.lora.rank, 8);
    assert_eq!(config.data.train, Path::new("2024"));
    assert_eq!(config.data.val.unwrap(), Path::new("a b/v.jsonl"));
    let named = LoraTargets::Names(vec!["q_proj".into()]);
    assert_eq!(config.lora.targets, named);
    assert_eq!(config.model.path, Path::new("quoted"));
    // Overrides may supply what the file lacks.
    assert!(load("", &["model.path=m", "model.base=f32", "data.train=t"]).is_ok());
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = r#"rank = 3
[modle]
path = "m"
[lora]
rnak = 16
rank = 0
alpha = "x"
dropout = 1.0
targets = ["q_proj", "qproj", "q_proj", 3]
vision = "yes"
[data]
max_pixels = 10
min_pixels = 20
too_long = "dorp"
[train]
epochs = 1.5
accumulate = 9_000_000
learning_rate = nan
betas = [0.9]
eps = 0
max_pixels = 5
seed = 99999999999999999999
zzz = 1
[train.inner]
a = 1
"#;
    assert_eq!(
        problems(text, &["lora.rsloar=true", "lora.init=", "train.micro_batch=two"]),
        "\
c.toml:1:1: unknown key `rank` | expected one of `model`, `lora`, `data`, `train`, `eval`, `output` | `rank` belongs under `[lora]`
c.toml:2:2: unknown table `[modle]` | expected one of `model`, `lora`, `data`, `train`, `eval`, `output` | did you mean `[model]`?
c.toml:5:1: unknown key `lora.rnak` | expected one of ..lora | did you mean `rank`?
c.toml:6:8: `lora.rank` is out of range | expected 1 to 65 536, found `0`
c.toml:7:9: wrong type for `lora.alpha` | expected a number, found a string `\"x\"`
c.toml:8:11: `lora.dropout` is out of range | expected a number of at least 0 and below 1, found `1.0`
c.toml:9:22: unknown value for `lora.targets` | expected one of `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj`, `down_proj`, found `qproj` | did you mean `q_proj`?
c.toml:9:31: `q_proj` stands twice in `lora.targets`
c.toml:9:41: wrong type for `lora.targets` | expected strings, found an integer `3`
c.toml:10:10: wrong type for `lora.vision` | expected `true` or `false`, found a string `\"yes\"`
c.toml:11:2: missing key `data.train` | expected a path | add `train = \"..\"` under `[data]`
c.toml:12:14: `data.min_pixels` is above `data.max_pixels` | expected at least 20, found 10
c.toml:14:12: unknown value for `data.too_long` | expected one of `error`, `drop`, found `dorp` | did you mean `drop`?
c.toml:16:10: wrong type for `train.epochs` | expected an integer, found a number `1.5`
c.toml:17:14: `train.accumulate` is out of range | expected 1 to 1 000 000, found `9_000_000`
c.toml:18:17: `train.learning_rate` is out of range | expected a number above 0, found `nan`
c.toml:19:9: wrong type for `train.betas` | expected a list of two numbers such as `[0.9, 0.999]`, found a list `[0.9]`
c.toml:20:7: `train.eps` is out of range | expected a number above 0, found `0`
c.toml:21:1: unknown key `train.max_pixels` | expected one of ..train | `max_pixels` belongs under `[data]`
c.toml:22:8: wrong type for `train.seed` | expected an integer, found an integer beyond 64 bits `99999999999999999999`
c.toml:23:1: unknown key `train.zzz` | expected one of ..train
c.toml:24:8: unknown key `train.inner` | expected one of ..train
--set lora.init=: `lora.init` is empty | expected a path
--set lora.rsloar=true: unknown key `lora.rsloar` | expected one of ..lora | did you mean `rslora`?
--set train.micro_batch=two: wrong type for `train.micro_batch` | expected an integer, found a string `two`
c.toml: missing key `model.path` | expected a path | add `path = \"..\"` under `[model]`
c.toml: missing key `model.base` | expected one of `nf4`, `bf16`, `f32` | add `base = \"..\"` under `[model]`"
    );
}

#[test]
fn a_table_that_is_no_table() {
    let text = "lora = 3\nmodel = { path = \"m\", base = \"f32\" }\n[[data]]\ntrain = \"t\"\n";
    assert_eq!(
        problems(text, &[]),
        "\
c.toml:1:1: wrong type for `lora` | expected a table `[lora]`
c.toml:3:3: wrong type for `data` | expected a table `[data]`
c.toml: missing key `data.train` | expected a path | add `train = \"..\"` under `[data]`"
    );
}

#[test]
fn windows_files_are_read() {
    let text = format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n"));
    assert_eq!(load(&text, &[]).unwrap(), load(SMALLEST, &[]).unwrap());
}

#[test]
fn broken_toml_is_placed() {
    assert_eq!(
        problems("[model]\npath = \"m\nbase = bf16\n", &[]),
        "c.toml:2:10: config is not valid TOML | invalid basic string, expected `\"`\n\
         c.toml:3:8: config is not valid TOML | string values must be quoted, expected literal string"
    );
    assert_eq!(
        problems("[model]\nbase = \"f32\"\nbase = \"f32\"\n", &[]),
        "c.toml:3:1: config is not valid TOML | duplicate key"
    );
}

#[test]
fn malformed_overrides_are_refused_together() {
    assert_eq!(
        problems(SMALLEST, &["lora.rank", "rank=3", "lorra.rank=3"]),
        "\
--set lora.rank: override without `=` | expected `TABLE.KEY=VALUE` | for example `--set train.learning_rate=2e-4`
--set rank=3: override without a table | expected `TABLE.KEY=VALUE` | for example `--set train.learning_rate=2e-4`"
    );
    assert_eq!(
        problems(SMALLEST, &["lorra.rank=3"]),
        "--set lorra.rank=3: unknown table `[lorra]` | expected one of `model`, `lora`, `data`, `train`, `eval`, `output` | did you mean `[lora]`?"
    );
}

#[test]
fn targets_may_be_a_pattern_and_tables_are_checked_entry_by_entry() {
    let pattern = r"model\.visual\..*fc1";
    let config = load(
        SMALLEST,
        &[&format!(
            "lora.targets=\"{}\"",
            pattern.replace('\\', r"\\")
        )],
    );
    let targets = config.unwrap().lora.targets;
    assert_eq!(targets, LoraTargets::Pattern(pattern.into()));
    assert_eq!(
        problems(
            SMALLEST,
            &[
                "lora.rank_pattern={ q_proj = 0, v_proj = \"x\" }",
                "lora.alpha_pattern=3",
            ]
        ),
        "\
--set lora.alpha_pattern=3: wrong type for `lora.alpha_pattern` | expected a table such as `{ \"q_proj\" = 32 }`, found an integer `3`
--set lora.rank_pattern={ q_proj = 0, v_proj = \"x\" }: `lora.rank_pattern` is out of range | expected 1 to 65 536, found `0`
--set lora.rank_pattern={ q_proj = 0, v_proj = \"x\" }: `lora.rank_pattern` is out of range | expected 1 to 65 536, found `\"x\"`"
    );
}

#[test]
fn packing_and_length_groups_must_make_sense() {
    let packing = "data.packing=true";
    assert!(load(SMALLEST, &[packing, "data.max_tokens=9"]).is_ok());
    assert!(load(SMALLEST, &[packing, "data.pack_tokens=9"]).is_ok());
    assert_eq!(
        problems(SMALLEST, &[packing]),
        "--set data.packing=true: `data.packing` does not say how long a row may be | set `data.pack_tokens`, such as 4096, or `data.max_tokens`"
    );
    assert_eq!(
        problems(
            SMALLEST,
            &[packing, "data.max_tokens=9", "data.pack_tokens=8"]
        ),
        "--set data.pack_tokens=8: `data.pack_tokens` is below `data.max_tokens` | expected at least 9, found 8"
    );
    let grouping = "data.group_by_length=true";
    assert!(load(SMALLEST, &[grouping, "train.micro_batch=2"]).is_ok());
    assert_eq!(
        problems(SMALLEST, &[grouping]),
        "--set data.group_by_length=true: `data.group_by_length` with one sample in a micro-batch | raise `train.micro_batch`, or leave it out: there is no padding to save"
    );
    assert_eq!(
        problems(SMALLEST, &[grouping, packing, "data.pack_tokens=8"]),
        "--set data.group_by_length=true: packed rows have no padding to save | leave out `data.group_by_length`"
    );
}

#[test]
fn empty_targets_need_vision() {
    assert!(load(SMALLEST, &["lora.targets=[]", "lora.vision=true"]).is_ok());
    assert_eq!(
        problems(SMALLEST, &["lora.targets=[]"]),
        "--set lora.targets=[]: nothing would be trained: `lora.targets` is empty | name at least one target, or set `lora.vision = true`"
    );
}

/// Files that people cut, edit and merge badly: an answer of either kind, never a panic.
#[test]
fn damaged_files_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let whole = Config::new("m", Base::F32, "t.jsonl").to_toml(Path::new("r"));
    let mut refused = 0;
    for at in 0..whole.len() {
        for damage in [
            "", "\u{e9}", "\"", "[", "{", "]\n", "\0", "''''''", "1e999", "\r",
        ] {
            if !(at + damage.len()).is_multiple_of(31) || !whole.is_char_boundary(at) {
                continue;
            }
            let damaged = match damage {
                "" => whole[..at].to_owned(),
                _ => format!("{}{damage}{}", &whole[..at], &whole[at..]),
            };
            std::fs::write(&path, damaged).unwrap();
            refused += usize::from(Config::load(&path, &[]).is_err());
        }
    }
    assert!(refused > 100, "{refused}");

    std::fs::write(&path, b"[model]\npath = \"\xff\"\n").unwrap();
    let error = Config::load(&path, &[]).unwrap_err();
    assert_eq!(error.message(), "config is not UTF-8 text");
    assert_eq!(error.places()[0].line, Some(2));
    assert!(Config::load(dir.path(), &[]).is_err());
}

#[test]
fn an_evaluation_that_cannot_decide_is_refused() {
    let found = problems(
        SMALLEST,
        &[
            "eval.best_metric=field_accuracy",
            "eval.patience=2",
            "eval.every_steps=0",
        ],
    );
    assert_eq!(
        found,
        "--set eval.best_metric=field_accuracy: `eval.best_metric` needs answers, and none are made | set `eval.generate_records` to \
         how many records are answered\n\
         --set eval.patience=2: `eval.patience` needs evaluations while training | expected `eval.every_steps` above \
         0, found 0"
    );
    let enough = [
        "eval.best_metric=field_accuracy",
        "eval.samples=1",
        "eval.patience=2",
    ];
    assert!(load(SMALLEST, &enough).is_ok());
}
