//! Four bits against bitsandbytes: codes and scales of single tensors, pre-quantised checkpoints,
//! quantising while loading, and the cache of quantised copies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::SafeTensors;
use vlft_checkpoint::{Checkpoint, Config, Part, Storage};
use vlft_kernels::nf4::{Code, DYNAMIC_LEVELS, LEVELS, Nf4Matrix, PackedScales, quantize};
use vlft_model::{Adapters, Frozen, Inputs, Quantization, Qwen3Vl};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Every tensor of a file as bytes.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file
        .iter()
        .map(|(name, view)| (name.to_string(), view.data().to_vec()));
    tensors.collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let chunks = bytes.as_chunks().0;
    chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn at_most_one_apart(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1)
}

#[test]
fn codes_scales_and_values_are_those_of_bitsandbytes() {
    let file = tensors(&fixtures().join("nf4_cases.safetensors"));
    assert_eq!(floats(&file["nf4"]), LEVELS);
    assert_eq!(floats(&file["dynamic_map"]), *DYNAMIC_LEVELS);
    let inputs: Vec<&String> = file
        .keys()
        .filter(|name| name.ends_with(".input"))
        .collect();
    assert!(inputs.len() >= 5);
    for name in inputs {
        let case = name.strip_suffix(".input").unwrap();
        let values = floats(&file[name]);
        for (kind, double) in [("single", false), ("double", true)] {
            let part = |part: &str| &file[&format!("{case}.{kind}.{part}")];
            let packed = quantize(&values, double).unwrap();
            assert_eq!(packed.codes, *part("weight"), "{case} {kind}");
            match &packed.scales {
                PackedScales::Single(scales) => assert_eq!(*scales, floats(part("absmax"))),
                PackedScales::Double {
                    codes,
                    nested,
                    offset,
                } => {
                    assert_eq!(codes, part("absmax"), "{case}");
                    assert_eq!(*nested, floats(part("nested_absmax")), "{case}");
                    assert_eq!(vec![*offset], floats(part("nested_offset")), "{case}");
                }
            }
            let shape = [1, values.len()];
            let matrix = Nf4Matrix::new(packed, &Code::default(), shape, &Device::flex());
            let found: Vec<f32> = matrix.matrix().into_data().iter().collect();
            assert_eq!(found, floats(part("dequantized")), "{case} {kind}");
        }
    }
}

fn inputs(config: &Config) -> Inputs {
    let (rows, tokens, image) = (1, 6, config.image_token_id as i32);
    Inputs {
        rows,
        tokens,
        input_ids: vec![5, image, image, 9, 11, 4],
        position_ids: (0..3 * tokens).map(|i| (i % tokens) as i32).collect(),
        pixel_values: (0..8 * config.vision.patch_dim())
            .map(|i| (i as f32 * 0.37).sin())
            .collect(),
        grid_thw: vec![[1, 2, 4]],
        segments: Vec::new(),
        neftune: None,
    }
}

fn logits(model: &Qwen3Vl) -> Vec<f32> {
    let logits = model.logits(&inputs(&model.config), &Adapters::none(), &mut |_, _| {});
    logits.into_data().iter().collect()
}

fn load(name: &str, frozen: Frozen) -> Qwen3Vl {
    let dir = fixtures().join(name);
    let config = Config::from_dir(&dir).unwrap();
    let checkpoint = Checkpoint::open(&dir).unwrap();
    Qwen3Vl::load(&config, &checkpoint, None, frozen, &Device::flex()).unwrap()
}

fn quantization(cache: Option<PathBuf>) -> Frozen {
    Frozen::nf4(Quantization {
        double_quant: true,
        parts: vec![Part::LanguageModel],
        cache,
    })
}

/// `bnb_double` was made from `tiny`, rounded to bf16, by transformers and bitsandbytes; `bnb_moe` from
/// `moe`, the experts by bitsandbytes alone.
#[test]
fn quantising_while_loading_gives_what_bitsandbytes_saved() {
    quantises_as_saved("tiny", "bnb_double");
    quantises_as_saved("moe", "bnb_moe");
}

fn quantises_as_saved(source: &str, saved: &str) {
    let cache = tempfile::tempdir().unwrap();
    load(source, quantization(Some(cache.path().into())));
    let copy = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap();
    let ours = tensors(&copy.path().join("nf4.safetensors"));
    let theirs = tensors(&fixtures().join(saved).join("model.safetensors"));
    let quantised = theirs.keys().filter(|name| name.contains(".quant_state."));
    assert_eq!(ours.len(), quantised.count() * 6);
    for (name, ours) in &ours {
        let theirs = &theirs[name];
        if name.ends_with(".absmax") {
            // Their quantiser takes the neighbour for a few values close to a midpoint.
            assert!(at_most_one_apart(ours, theirs), "{name}");
        } else if name.ends_with(".nested_quant_map") {
            // Its last bits depend on how a build of torch rounds linspace.
            let (ours, theirs) = (floats(ours), floats(theirs));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 6e-8;
            assert!(ours.iter().zip(&theirs).all(close), "{name}");
        } else if !name.ends_with(".quant_state.bitsandbytes__nf4") {
            assert_eq!(ours, theirs, "{name}");
        }
    }
}

#[test]
fn a_quantised_checkpoint_is_taken_as_it_is_and_can_be_made_dense() {
    for name in ["bnb_double", "bnb_single", "bnb_moe"] {
        let packed = load(name, Frozen::as_stored());
        assert_eq!(packed.double_quant(), Some(name != "bnb_single"));
        let dense = load(name, Storage::F32.into());
        assert_eq!(dense.double_quant(), None);
        assert_eq!(logits(&packed), logits(&dense), "{name}");
        // What the config asks for does not quantise it a second time.
        let again = load(name, quantization(None));
        assert_eq!(logits(&packed), logits(&again), "{name}");
    }
}

#[test]
fn the_cached_copy_is_used_and_a_damaged_one_made_again() {
    let cache = tempfile::tempdir().unwrap();
    let first = logits(&load("tiny", quantization(Some(cache.path().into()))));
    assert_eq!(first, logits(&load("tiny", quantization(None))));
    let copy = fs::read_dir(cache.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = copy.join("nf4.safetensors");
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(
        first,
        logits(&load("tiny", quantization(Some(cache.path().into()))))
    );
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);

    // Cut, one bit of a scale flipped, without its seal: set aside with a warning, and made again.
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let seal = copy.join("nf4.sha256");
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage; 4] = [
        ("is not what was written", &|| {
            fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
        }),
        ("is not what was written", &|| {
            fs::write(&file, &flipped).unwrap();
        }),
        ("cannot be read", &|| fs::remove_file(&file).unwrap()),
        ("`nf4.sha256` is missing", &|| {
            fs::remove_file(&seal).unwrap();
        }),
    ];
    for (why, damage) in damages {
        damage();
        let model = load("tiny", quantization(Some(cache.path().into())));
        let [warning] = &model.warnings[..] else {
            panic!("{:?}", model.warnings);
        };
        assert!(warning.to_string().contains(why), "{warning}");
        assert!(logits(&model) == first, "{why}");
        assert!(fs::read(&file).unwrap() == bytes, "{why}");
        assert!(copy.with_extension("damaged").is_dir());
    }
    let whole = load("tiny", quantization(Some(cache.path().into())));
    assert!(whole.warnings.is_empty());
}

#[test]
fn damaged_quantised_tensors_are_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let source = fixtures().join("bnb_double");
    let bytes = fs::read(source.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = "model.language_model.layers.0.mlp.up_proj.weight";
    let save = |skip: &str, rename: &str| {
        let views = file.iter().filter(|(name, _)| *name != skip);
        let views = views.map(|(name, view)| (name.replace("bitsandbytes__nf4", rename), view));
        let path = scratch.path().join("model.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        Checkpoint::open(scratch.path()).err()
    };
    assert!(save("", "bitsandbytes__nf4").is_none());
    for part in [
        "",
        ".absmax",
        ".quant_map",
        ".nested_absmax",
        ".nested_quant_map",
    ] {
        let error = save(&format!("{matrix}{part}"), "bitsandbytes__nf4").unwrap();
        assert!(error.to_string().contains(matrix), "{part}: {error}");
    }
    let error = save("", "bitsandbytes__fp4").unwrap();
    assert!(error.to_string().contains("bitsandbytes__fp4"), "{error}");
}
