//! Models that are cut short, torn apart or made up: each is refused, by name, without a panic, in no
//! time and with nothing left behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use vlft_base::output::Existing;
use vlft_checkpoint::Config;
use vlft_checkpoint::info::info;
use vlft_checkpoint::merge::{Options, merge, verify};
use vlft_checkpoint::serving;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

const INDEX: &str = "model.safetensors.index.json";

/// Three shards; the second is edited.
fn second(dir: &Path) -> PathBuf {
    dir.join("model-00002-of-00003.safetensors")
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Rewrites the header of a safetensors file; the values stay.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    write(path, &header, &bytes[8 + length..]);
}

fn write(path: &Path, header: &Value, values: &[u8]) {
    let header = header.to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(values).unwrap();
}

/// The first two tensors of a header.
fn two(header: &Value) -> [String; 2] {
    let names = header.as_object().unwrap().keys();
    let names: Vec<&String> = names.filter(|n| *n != "__metadata__").take(2).collect();
    [names[0].clone(), names[1].clone()]
}

/// Changes the first tensor of a header.
fn set(header: &mut Value, key: &str, value: Value) {
    let [first, _] = two(header);
    header[first][key] = value;
}

type Damage = fn(&Path);

const DAMAGED: [(&str, Damage, &str); 17] = [
    (
        "a shard cut short",
        |d| {
            let bytes = fs::read(second(d)).unwrap();
            fs::write(second(d), &bytes[..bytes.len() - 7]).unwrap();
        },
        "damaged or cut short",
    ),
    (
        "an empty shard",
        |d| fs::write(second(d), b"").unwrap(),
        "damaged or cut short",
    ),
    (
        "bytes behind the last tensor",
        |d| {
            let mut file = File::options().append(true).open(second(d)).unwrap();
            file.write_all(b"more").unwrap();
        },
        "damaged or cut short",
    ),
    (
        "a header of 2^63 bytes",
        |d| {
            let mut bytes = fs::read(second(d)).unwrap();
            bytes[..8].copy_from_slice(&(1u64 << 63).to_le_bytes());
            fs::write(second(d), bytes).unwrap();
        },
        "damaged or cut short",
    ),
    (
        "two tensors in one place",
        |d| {
            edit_header(&second(d), |h| {
                let [a, b] = two(h);
                h[&b] = h[&a].clone();
            });
        },
        "damaged or cut short",
    ),
    (
        "a place before the file",
        |d| edit_header(&second(d), |h| set(h, "data_offsets", json!([-8, 8]))),
        "damaged or cut short",
    ),
    (
        "a shape beyond 64 bits",
        |d| {
            edit_header(&second(d), |h| {
                set(h, "shape", json!([1u64 << 40, 1u64 << 40]));
            });
        },
        "damaged or cut short",
    ),
    (
        "a tensor of integers",
        |d| edit_header(&second(d), |h| set(h, "dtype", json!("I16"))),
        "do not fit config.json",
    ),
    (
        "a missing shard",
        |d| fs::remove_file(second(d)).unwrap(),
        "1 shard of 3 missing",
    ),
    (
        "a shard the index does not name",
        |d| {
            edit_json(&d.join(INDEX), |i| {
                let map = i["weight_map"].as_object_mut().unwrap();
                for shard in map.values_mut() {
                    if *shard == "model-00002-of-00003.safetensors" {
                        *shard = json!("model-00009-of-00003.safetensors");
                    }
                }
            });
        },
        "1 shard of 3 missing",
    ),
    (
        "an index that leaves the folder",
        |d| {
            edit_json(&d.join(INDEX), |i| {
                let map = i["weight_map"].as_object_mut().unwrap();
                *map.values_mut().next().unwrap() = json!("../elsewhere.safetensors");
            });
        },
        "index of the shards is damaged",
    ),
    (
        "an index of numbers",
        |d| {
            edit_json(&d.join(INDEX), |i| {
                let map = i["weight_map"].as_object_mut().unwrap();
                *map.values_mut().next().unwrap() = json!(7);
            });
        },
        "index of the shards is damaged",
    ),
    (
        "an index without a map",
        |d| fs::write(d.join(INDEX), "[]").unwrap(),
        "index of the shards is damaged",
    ),
    (
        "a tensor in two shards",
        |d| {
            fs::copy(d.join("model-00001-of-00003.safetensors"), second(d)).unwrap();
        },
        "tensor is in two files",
    ),
    (
        "four thousand million layers",
        |d| {
            edit_json(&d.join("config.json"), |c| {
                c["text_config"]["num_hidden_layers"] = json!(u32::MAX);
            });
        },
        "unsupported value of `text_config.num_hidden_layers`",
    ),
    (
        "patches beyond 64 bits",
        |d| {
            edit_json(&d.join("config.json"), |c| {
                c["vision_config"]["patch_size"] = json!(u32::MAX);
            });
        },
        "unsupported value of `vision_config.patch_size`",
    ),
    (
        "a config that is a list",
        |d| fs::write(d.join("config.json"), "[[[]]]").unwrap(),
        "missing key `model_type`",
    ),
];

#[test]
fn a_damaged_model_is_refused_by_every_command() {
    for (what, damage, said) in DAMAGED {
        let model = copy("tiny_bf16_sharded");
        damage(model.path());
        let out = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let target = out.path().join("merged");
        let options = Options {
            model: model.path().to_path_buf(),
            into: None,
            adapter: fixture("adapter_b"),
            adapter_name: "an adapter".into(),
            out: target.clone(),
            existing: Existing::Refuse,
        };
        let errors = [
            info(model.path(), false).map(drop),
            merge(&options, &|_, _| {}).map(drop),
            verify(
                &fixture("tiny_bf16_sharded"),
                model.path(),
                &fixture("adapter_b"),
                &|_, _| {},
            )
            .map(drop),
        ]
        .map(|result| result.expect_err(what));
        for error in errors {
            assert!(error.message().contains(said), "{what}: {error}");
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{what}");
    }
}

/// `verify` says what is wrong with a merged model instead of failing over it, as far as it can be read.
#[test]
fn a_merged_model_with_another_header_is_told_from_one_that_is_torn() {
    let out = tempfile::tempdir().unwrap();
    let merged = out.path().join("merged");
    let base = fixture("tiny_bf16_sharded");
    let options = Options {
        model: base.clone(),
        into: None,
        adapter: fixture("adapter_b"),
        adapter_name: "an adapter".into(),
        out: merged.clone(),
        existing: Existing::Refuse,
    };
    merge(&options, &|_, _| {}).unwrap();
    let look = || verify(&merged, &base, &fixture("adapter_b"), &|_, _| {});
    assert!(look().unwrap().equal);
    edit_header(&second(&merged), |h| {
        h["__metadata__"] = json!({"format": "np"})
    });
    let report = look().unwrap();
    assert!(!report.equal);
    assert_eq!(report.differences.len(), 1, "{report}");
    fs::remove_file(second(&merged)).unwrap();
    assert!(look().unwrap_err().message().contains("missing"));
}

/// A pipe would wait for ever, a device would never end; a link to a file is a file.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    let options = serving::Options {
        version: &serving::VERSIONS[0],
        model: None,
        served_with: None,
        archive: None,
    };
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let adapter = copy("adapter_b");
        let path = adapter.path().join(name);
        fs::remove_file(&path).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        let error = serving::check(adapter.path(), &options).unwrap_err();
        assert!(error.causes()[0].contains("no regular file"), "{error}");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(serving::check(adapter.path(), &options).is_err());
        fs::remove_file(&path).unwrap();
        symlink(fixture("adapter_b").join(name), &path).unwrap();
        assert!(serving::check(adapter.path(), &options).unwrap().passes);
        // To itself.
        fs::remove_file(&path).unwrap();
        symlink(&path, &path).unwrap();
        assert!(serving::check(adapter.path(), &options).is_err());
    }
    // A sharded download in a cache is links.
    let model = copy("tiny_bf16_sharded");
    fs::remove_file(second(model.path())).unwrap();
    symlink(second(&fixture("tiny_bf16_sharded")), second(model.path())).unwrap();
    info(model.path(), false).unwrap();
}

/// Every config with one value of another type: an error or a config, never a panic, and nothing that
/// takes long.
#[test]
fn no_value_of_a_config_panics() {
    let hostile = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!("8"),
        json!([]),
        json!([[1]]),
        json!({}),
        json!(true),
    ];
    for model in ["tiny", "moe", "bnb_double"] {
        let text = fs::read(fixture(model).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        let tables = ["", "text_config", "vision_config", "quantization_config"];
        for table in tables {
            let at = match table {
                "" => Some(&config),
                table => config.get(table),
            };
            let Some(keys) = at.and_then(Value::as_object) else {
                continue;
            };
            for key in keys.keys() {
                for value in &hostile {
                    let mut edited = config.clone();
                    match table {
                        "" => edited[key] = value.clone(),
                        table => edited[table][key] = value.clone(),
                    }
                    let path = format!("{model} {table}.{key} {value}");
                    if let Ok(config) = Config::from_json(&edited, path.as_ref()) {
                        let elements = config.tensors().into_iter().map(|(_, shape)| {
                            shape
                                .iter()
                                .try_fold(1u64, |product, side| product.checked_mul(*side as u64))
                        });
                        let all = elements.collect::<Option<Vec<u64>>>();
                        assert!(all.is_some(), "{path}");
                    }
                }
            }
        }
    }
}
