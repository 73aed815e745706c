use serde_json::{Value, json};

use super::*;
use crate::layout::{Layout, LoraSpec, LoraTargets};
use crate::published;

/// What follows from the config of a published model.
struct Member {
    name: &'static str,
    parameters: usize,
    tensors: usize,
    /// LoRA r = 16 on every language target that there is.
    lora: usize,
}

const MEMBERS: [Member; 6] = [
    Member {
        name: "2B",
        parameters: 2_127_532_032,
        tensors: 625,
        lora: 17_432_576,
    },
    Member {
        name: "4B",
        parameters: 4_437_815_808,
        tensors: 713,
        lora: 33_030_144,
    },
    Member {
        name: "8B",
        parameters: 8_767_123_696,
        tensors: 750,
        lora: 43_646_976,
    },
    Member {
        name: "32B",
        parameters: 33_357_390_064,
        tensors: 1058,
        lora: 134_217_728,
    },
    Member {
        name: "30B-A3B",
        parameters: 31_070_754_032,
        tensors: 882,
        lora: 13_369_344,
    },
    Member {
        name: "235B-A22B",
        // The language model of Qwen3-235B-A22B, and this vision tower over 4096.
        parameters: 235_093_634_560 + 576_388_336,
        tensors: 1388,
        lora: 50_823_168,
    },
];

impl Member {
    fn json(&self) -> Value {
        published::find(self.name).unwrap().json()
    }

    fn config(&self) -> Config {
        read(&self.json())
    }

    /// Every target that the model has.
    fn spec(&self) -> LoraSpec {
        match self.config().text.experts {
            None => LoraSpec::default(),
            Some(_) => names(&["q_proj", "k_proj", "v_proj", "o_proj"]),
        }
    }
}

fn read(json: &Value) -> Config {
    Config::from_json(json, "config.json".as_ref()).unwrap()
}

fn names(names: &[&str]) -> LoraSpec {
    LoraSpec {
        targets: LoraTargets::Names(names.iter().map(ToString::to_string).collect()),
        ..LoraSpec::default()
    }
}

fn parameters(config: &Config) -> usize {
    let sizes = config.tensors().into_iter().map(|(_, shape)| shape);
    sizes.map(|shape| shape.iter().product::<usize>()).sum()
}

/// Totals of the published checkpoints (8B: 750 tensors, 30B-A3B: 882) as counted by transformers on the
/// meta device, and what LoRA adds.
#[test]
fn every_size_follows_from_its_config() {
    for member in &MEMBERS {
        let (name, config) = (member.name, member.config());
        assert_eq!(parameters(&config), member.parameters, "{name}");
        assert_eq!(config.tensors().len(), member.tensors, "{name}");
        let layout = Layout::new(&config, &member.spec()).unwrap();
        assert_eq!(layout.parameters(), member.lora, "{name}");
    }
}

#[test]
fn which_layers_have_experts_is_the_configs_word() {
    let sparse = |step: usize, dense: &[usize]| {
        let mut json = MEMBERS[4].json();
        json["text_config"]["num_hidden_layers"] = json!(6);
        json["text_config"]["decoder_sparse_step"] = json!(step);
        json["text_config"]["mlp_only_layers"] = json!(dense);
        let config = read(&json);
        let layers = (0..6).filter(|i| config.text.experts_of(*i).is_some());
        layers.collect::<Vec<_>>()
    };
    assert_eq!(sparse(1, &[]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(sparse(2, &[]), [1, 3, 5]);
    assert_eq!(sparse(3, &[2]), [5]);
    assert_eq!(sparse(1, &[0, 5]), [1, 2, 3, 4]);
}

#[test]
fn transformers_five_names_the_number_of_experts_otherwise() {
    let mut json = MEMBERS[4].json();
    let text = json["text_config"].as_object_mut().unwrap();
    let count = text.remove("num_experts").unwrap();
    text.insert("num_local_experts".into(), count);
    assert_eq!(read(&json), MEMBERS[4].config());
}

#[test]
fn experts_that_make_no_sense_are_refused() {
    for (key, value) in [
        ("num_experts", json!(0)),
        ("num_experts", json!(7)),
        ("num_experts_per_tok", json!(129)),
        ("moe_intermediate_size", json!("wide")),
        ("decoder_sparse_step", json!(0)),
        ("mlp_only_layers", json!([48])),
        ("norm_topk_prob", json!(false)),
    ] {
        let mut json = MEMBERS[4].json();
        json["text_config"][key] = value;
        let error = Config::from_json(&json, "config.json".as_ref()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains(key) || said.contains("num_experts_per_tok"),
            "{said}"
        );
    }
}

/// Experts are never adapted, and whoever asks for them is told so.
#[test]
fn experts_are_not_adapted_in_silence() {
    let all_sparse = MEMBERS[4].config();
    let mut json = MEMBERS[4].json();
    json["text_config"]["mlp_only_layers"] = json!([0, 1]);
    let two_dense = read(&json);
    let pattern = |pattern: &str| LoraSpec {
        targets: LoraTargets::Pattern(pattern.into()),
        ..LoraSpec::default()
    };
    for (config, spec) in [
        (&all_sparse, LoraSpec::default()),
        (&all_sparse, names(&["q_proj", "down_proj"])),
        (&all_sparse, names(&["experts"])),
        (&all_sparse, pattern(".*experts.*")),
        (&two_dense, pattern(r".*\.(q_proj|gate_up_proj)")),
        (&two_dense, pattern(r"model\.language_model\..*mlp.*")),
    ] {
        let error = Layout::new(config, &spec).unwrap_err();
        assert!(error.message().contains("experts"), "{spec:?}: {error}");
    }
    // Attention of every layer, and the projections of the dense ones.
    let layout = Layout::new(&two_dense, &LoraSpec::default()).unwrap();
    assert_eq!(layout.modules.len(), 48 * 4 + 2 * 3);
    let attention = Layout::new(&two_dense, &pattern(r".*self_attn.*")).unwrap();
    assert_eq!(attention.modules.len(), 48 * 4);
}

#[test]
fn fused_experts_may_lie_either_way() {
    let name = "model.language_model.layers.3.mlp.experts.down_proj";
    assert!(fits(name, &[8, 4, 6], &[8, 4, 6]));
    assert!(fits(name, &[8, 4, 6], &[8, 6, 4]));
    assert!(!fits(name, &[8, 4, 6], &[4, 8, 6]));
    assert!(!fits(
        "model.visual.patch_embed.proj.weight",
        &[8, 4, 6],
        &[8, 6, 4]
    ));
}
