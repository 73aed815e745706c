//! The check before training says what the check of the written adapter says.

use std::path::Path;

use serde_json::json;
use vlft_checkpoint::published::Published;
use vlft_checkpoint::serving::{Report, check, check_planned};
use vlft_checkpoint::{Config, F32Matrix, Layout, LoraSpec, LoraTargets, write_adapter};

use crate::made::{fixture, options};

/// As training ends: values that are not zero.
fn written(dir: &Path, layout: &Layout) {
    let matrix =
        |shape: [usize; 2]| F32Matrix::new(shape, std::iter::repeat_n(0.5, shape[0] * shape[1]));
    let pairs = layout.modules.iter().map(|m| {
        [
            matrix([m.rank, m.in_features]),
            matrix([m.out_features, m.rank]),
        ]
    });
    write_adapter(dir, layout, pairs.collect(), "models/base").unwrap();
}

/// A report without what is of its folder.
fn essence(report: &Report) -> serde_json::Value {
    let mut json = serde_json::to_value(report).unwrap();
    json["adapter"] = json!(null);
    json["serve"]["command"] = json!(null);
    json
}

#[test]
fn a_planned_adapter_is_judged_as_the_written_one() {
    let spec = LoraSpec::default;
    let attention = ["q_proj", "k_proj", "v_proj", "o_proj"].map(String::from);
    let everything = LoraSpec {
        vision: true,
        merger: true,
        ..spec()
    };
    for (model, spec, passes) in [
        ("tiny", spec(), true),
        ("tiny", everything, true),
        (
            "odd",
            LoraSpec {
                rank_pattern: vec![("q_proj".into(), 3)],
                alpha_pattern: vec![("up_proj".into(), 5.0)],
                rslora: true,
                ..spec()
            },
            true,
        ),
        (
            "moe",
            LoraSpec {
                targets: LoraTargets::Names(attention.to_vec()),
                ..spec()
            },
            true,
        ),
        (
            "tiny",
            LoraSpec {
                rank: 600,
                ..spec()
            },
            false,
        ),
    ] {
        let config = Config::from_dir(&fixture(model)).unwrap();
        let layout = Layout::new(&config, &spec).unwrap();
        let options = options("0.33", Some(fixture(model)), None);
        let planned = check_planned(&layout, "models/base", &options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &layout);
        let found = check(dir.path(), &options).unwrap();
        assert_eq!(essence(&planned), essence(&found), "{model}");
        assert_eq!(planned.passes, passes, "{model}: {planned}");
    }
}

/// 17 GB of it would be written by training; nothing of that is needed to judge it.
#[test]
fn the_largest_adapter_is_judged_in_no_time() {
    let dir = tempfile::tempdir().unwrap();
    let published = Published::named("Qwen3-VL-32B").unwrap();
    std::fs::write(dir.path().join("config.json"), published.json().to_string()).unwrap();
    let spec = LoraSpec {
        rank: 512,
        vision: true,
        ..LoraSpec::default()
    };
    let layout = Layout::new(&published.config(), &spec).unwrap();
    let options = options("0.33", Some(dir.path().to_path_buf()), None);
    let report = check_planned(&layout, "models/base", &options).unwrap();
    assert!(report.passes, "{report}");
    assert_eq!(report.serve.max_lora_rank, Some(512));
}
