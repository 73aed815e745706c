//! The tiny model's files are read by the libraries that read the published ones.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;
use vlft_example::tiny_model::{CHAT_TEMPLATE, Size, write_files};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_tokenizer_loads_and_agrees_with_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let size = Size::default();
    write_files(dir.path(), &size).unwrap();
    let tokenizer = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    let config = json(&dir.path().join("config.json"));
    for (key, token) in [
        ("image_token_id", "<|image_pad|>"),
        ("video_token_id", "<|video_pad|>"),
        ("vision_start_token_id", "<|vision_start|>"),
        ("vision_end_token_id", "<|vision_end|>"),
    ] {
        let id = tokenizer.token_to_id(token).map(u64::from);
        assert_eq!(config[key].as_u64(), id, "{key}");
    }
    let eos = tokenizer.token_to_id("<|im_end|>").map(u64::from);
    assert_eq!(config["text_config"]["eos_token_id"].as_u64(), eos);
    assert!(tokenizer.get_vocab_size(true) <= size.vocab_size);
    assert_eq!(config["text_config"]["vocab_size"], size.vocab_size);
    let tokenizer_config = json(&dir.path().join("tokenizer_config.json"));
    assert_eq!(tokenizer_config["chat_template"], CHAT_TEMPLATE);
}

#[test]
fn any_text_survives_and_answers_become_short() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &Size::default()).unwrap();
    let tokenizer = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    let answer = r#"{"consignee_name":"A BUYER BERHAD","bl_number":"SGNS20000001","vessel_name":"STAR OF SIAM"}"#;
    for text in [
        answer,
        "na\u{ef}ve \u{4f60}\u{597d} \u{1f600}\r\n\t  x",
        "It's  12\n\n",
    ] {
        let encoding = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
    }
    let encoding = tokenizer.encode(answer, false).unwrap();
    let tokens = encoding.get_tokens();
    assert!(tokens.len() < answer.len() / 2, "{tokens:?}");
    assert!(tokens.contains(&"consignee".to_owned()), "{tokens:?}");
    // One token each: markers are never cut into their letters.
    let markers =
        "<|im_start|><|vision_start|><|image_pad|><|vision_end|><|im_end|><think></think>";
    assert_eq!(tokenizer.encode(markers, false).unwrap().len(), 7);
}
