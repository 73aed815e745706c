//! New names for an old adapter.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use vlft_base::output::Existing;
use vlft_checkpoint::Config;
use vlft_checkpoint::serving::{check, rewrite};

use crate::made::{Made, fixture, options};

#[test]
fn new_names_mend_an_adapter_and_say_what_they_cannot() {
    let config = Config::from_dir(&fixture("tiny")).unwrap();
    let right = Made::of(&config.linear_modules()).set("target_modules", json!("all-linear"));
    let out = tempfile::tempdir().unwrap();
    for (i, (from, to)) in [
        ("model.language_model.", "model."),
        (".weight", ".default.weight"),
        ("base_model.model.", "base_model.model._orig_mod."),
        ("base_model.model.", "module.base_model.model."),
    ]
    .into_iter()
    .enumerate()
    {
        let wrong = right.clone().rename(from, to).set(
            "target_modules",
            json!(r".*layers\.\d+\.(mlp|self_attn)\..*"),
        );
        let dir = wrong.write();
        let target = out.path().join(i.to_string());
        let rewritten = rewrite(dir.path(), &target, Existing::Refuse).unwrap();
        assert!(rewritten.renamed > 0 && rewritten.cannot.is_empty(), "{to}");
        let report = check(&target, &options("0.33", Some(fixture("tiny")), None)).unwrap();
        assert!(report.passes, "{to}: {report}");
        // The same bytes as the right one has.
        let expected = right.write();
        let read = |dir: &Path| {
            let bytes = fs::read(dir.join("adapter_model.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let all = file.iter().map(|(n, v)| (n.to_string(), v.data().to_vec()));
            all.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(read(&target), read(expected.path()), "{to}");
    }
    let dora = right.clone().rename(".weight", ".default.weight").with(
        "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        &[64],
    );
    let target = out.path().join("dora");
    let rewritten = rewrite(dora.write().path(), &target, Existing::Refuse).unwrap();
    assert_eq!(rewritten.cannot.len(), 1);
    let again = rewrite(
        right.write().path(),
        &out.path().join("x"),
        Existing::Refuse,
    )
    .unwrap_err();
    assert!(again.message().contains("nothing to rename"), "{again}");
}
