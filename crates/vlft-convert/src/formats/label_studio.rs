//! Label Studio exports, read only: what people marked on a page becomes a JSON answer. The full export
//! has tasks with `data` and `annotations`; the annotation to learn from is the ground truth, else the
//! latest that was not cancelled.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use vlft_dataset::json::Step;
use vlft_dataset::record::Role;

use crate::fields::{Fallible, Object, below, wrong};
use crate::images::Finder;
use crate::rules::{
    ANNOTATIONS_DROPPED, BOXES_DROPPED, IMAGE_AMBIGUOUS, IMAGE_MISSING, NO_LABEL, UNSUPPORTED,
};
use crate::sample::{Image, Piece, Refusal, Sample, Turn};

/// What the person does not say and every record needs.
pub(crate) const PROMPT: &str = "Extract the labelled fields from this page as JSON.";

pub(crate) fn read(value: Value, prompt: &str, finder: &Finder) -> Fallible<Sample> {
    let mut task = Object::new(value, &[])?;
    if task.has("annotations") || task.has("completions") {
        full(&mut task, prompt, finder).map(|mut sample| {
            // What the server counts about a task says nothing of the page.
            for key in BOOKKEEPING {
                task.take(key);
            }
            task.besides(&mut sample);
            sample
        })
    } else {
        Err(Refusal::new(
            UNSUPPORTED,
            "no `annotations`: this may be the JSON-MIN export; export as JSON",
        ))
    }
}

const BOOKKEEPING: [&str; 15] = [
    "predictions",
    "drafts",
    "created_at",
    "updated_at",
    "inner_id",
    "total_annotations",
    "cancelled_annotations",
    "total_predictions",
    "comment_count",
    "unresolved_comment_count",
    "last_comment_updated_at",
    "project",
    "updated_by",
    "comment_authors",
    "file_upload",
];

fn full(task: &mut Object, prompt: &str, finder: &Finder) -> Fallible<Sample> {
    let mut sample = Sample::default();
    let at = task.path("data");
    let data = Object::new(task.need("data")?, &at)?.rest();
    let key = match task.has("annotations") {
        true => "annotations",
        false => "completions",
    };
    let annotations = task.need_array(key)?;
    let given = annotations.len();
    let Some(chosen) = choose(annotations) else {
        let reason = match given {
            0 => "nobody labelled it".to_owned(),
            _ => "every annotation was cancelled".to_owned(),
        };
        return Err(Refusal::new(NO_LABEL, reason));
    };
    if given > 1 {
        let reason = format!("one annotation of {given} is the answer, the others are left out");
        sample.lose(ANNOTATIONS_DROPPED, reason);
    }
    let (answer, images_named) = answer(&chosen)?;
    let spots = spots(&chosen);
    if spots > 0 {
        let reason = format!("{} on the page", vlft_base::format::count(spots, "spot"));
        sample.lose(BOXES_DROPPED, reason);
    }
    let pages = pages(&data, &images_named);
    let mut content = Vec::new();
    for (key, address) in &pages {
        content.push(Piece::Image(Image::Path(
            locate(address, finder).map_err(|refusal| refusal.at(&below(&at, key.as_str())))?,
        )));
    }
    if content.is_empty() {
        let reason = "no image in `data`: neither the labels' image nor a value that ends in .png, .jpg or .webp";
        return Err(Refusal::new(IMAGE_MISSING, reason).at(&at));
    }
    content.push(Piece::Text(prompt.to_owned()));
    sample.turns = vec![
        Turn::new(Role::User, content),
        Turn::says(Role::Assistant, Value::Object(answer).to_string()),
    ];
    let facts: Map<String, Value> = data
        .into_iter()
        .filter(|(key, _)| !pages.iter().any(|(page, _)| page == key))
        .collect();
    if !facts.is_empty() {
        let meta = sample.meta.get_or_insert_default();
        meta.insert("data".into(), Value::Object(facts));
    }
    Ok(sample)
}

fn choose(annotations: Vec<Value>) -> Option<Value> {
    let flag = |value: &Value, key: &str| value.get(key) == Some(&Value::Bool(true));
    annotations
        .into_iter()
        .filter(|annotation| !flag(annotation, "was_cancelled"))
        .max_by_key(|annotation| {
            // ISO times of one server sort as texts.
            let time = annotation
                .get("updated_at")
                .or(annotation.get("created_at"));
            let time = time.and_then(Value::as_str).unwrap_or_default().to_owned();
            (flag(annotation, "ground_truth"), time)
        })
}

/// How many places on the page were marked.
fn spots(annotation: &Value) -> u64 {
    let results = annotation.get("result").and_then(Value::as_array);
    let is_spot = |result: &&Value| {
        let value = result.get("value");
        value.is_some_and(|value| value.get("x").is_some() || value.get("points").is_some())
    };
    let mut ids: Vec<Option<&str>> = results
        .into_iter()
        .flatten()
        .filter(is_spot)
        .map(|result| result.get("id").and_then(Value::as_str))
        .collect();
    // Several results with one id are one spot.
    ids.sort_unstable();
    ids.dedup_by(|a, b| a.is_some() && a == b);
    ids.len() as u64
}

/// One marked spot, or a choice about the whole page: what was said with one `id`.
#[derive(Default)]
struct Region {
    labels: Vec<String>,
    texts: Vec<Value>,
    /// The control's name, for what has no label.
    control: String,
}

/// The answer's fields, and the names in `data` of the images that were labelled.
fn answer(annotation: &Value) -> Fallible<(Map<String, Value>, Vec<String>)> {
    let path: Vec<Step> = vec!["annotations".into(), "result".into()];
    let empty = Vec::new();
    let results = match annotation.get("result") {
        Some(Value::Array(results)) => results,
        Some(other) => return Err(wrong(&path, "an array", other)),
        None => &empty,
    };
    let mut order: Vec<String> = Vec::new();
    let mut regions: BTreeMap<String, Region> = BTreeMap::new();
    let mut images = Vec::new();
    for (index, result) in results.iter().enumerate() {
        let text = |key: &str| result.get(key).and_then(Value::as_str);
        let kind = text("type").unwrap_or_default();
        if kind == "relation" {
            return Err(Refusal::new(
                UNSUPPORTED,
                "labels that point at each other (`relation`) have no place in an answer",
            ));
        }
        if let Some(name) = text("to_name")
            && !images.iter().any(|known| known == name)
        {
            images.push(name.to_owned());
        }
        let id = text("id").map_or_else(|| format!("#{index}"), str::to_owned);
        if !regions.contains_key(&id) {
            order.push(id.clone());
        }
        let region = regions.entry(id).or_default();
        if region.control.is_empty() || kind == "textarea" {
            region.control = text("from_name").unwrap_or(kind).to_owned();
        }
        said(result.get("value"), kind, region);
    }
    let mut fields = Map::new();
    for id in order {
        let region = regions.remove(&id).expect("every id was entered");
        let value = match region.texts.len() {
            // A spot with a name and no text says that it is there.
            0 if region.labels.is_empty() => continue,
            0 => Value::Bool(true),
            1 => region.texts.into_iter().next().unwrap_or_default(),
            _ => Value::Array(region.texts),
        };
        let names = match region.labels.is_empty() {
            true => vec![region.control],
            false => region.labels,
        };
        for name in names {
            put(&mut fields, name, value.clone());
        }
    }
    match fields.is_empty() {
        true => Err(Refusal::new(NO_LABEL, "the annotation is empty")),
        false => Ok((fields, images)),
    }
}

/// A second value of one name makes a list of both.
fn put(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        None => {
            fields.insert(name, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(one) => *one = Value::Array(vec![one.take(), value]),
    }
}

/// What one result says: names of a spot, or values.
fn said(value: Option<&Value>, kind: &str, region: &mut Region) {
    let Some(Value::Object(value)) = value else {
        return;
    };
    let texts = |key: &str| -> Vec<Value> {
        match value.get(key) {
            Some(Value::Array(values)) => values.clone(),
            Some(Value::Null) | None => Vec::new(),
            Some(one) => vec![one.clone()],
        }
    };
    match kind {
        "textarea" => region.texts.extend(texts("text")),
        "choices" => region.texts.extend(texts("choices")),
        "number" | "rating" | "datetime" => region.texts.extend(texts(kind)),
        "taxonomy" => region.texts.extend(texts("taxonomy")),
        // `rectanglelabels`, `polygonlabels`, `labels` and their kin.
        _ => {
            let names = texts(kind);
            let names = names.iter().filter_map(Value::as_str).map(str::to_owned);
            region.labels.extend(names);
            region.texts.extend(texts("text"));
        }
    }
}

/// The images of a task: those that the labels stand on, else what looks like one. An object's own name
/// is mostly that of its column.
fn pages(data: &Map<String, Value>, named: &[String]) -> Vec<(String, String)> {
    let of = |key: &str| -> Vec<(String, String)> {
        match data.get(key) {
            Some(Value::String(address)) => vec![(key.to_owned(), address.clone())],
            Some(Value::Array(addresses)) => addresses
                .iter()
                .filter_map(Value::as_str)
                .map(|address| (key.to_owned(), address.to_owned()))
                .collect(),
            _ => Vec::new(),
        }
    };
    let named: Vec<(String, String)> = named.iter().flat_map(|name| of(name)).collect();
    if !named.is_empty() {
        return named;
    }
    let looks = |address: &str| {
        let end = address.rsplit('.').next().unwrap_or_default();
        ["png", "jpg", "jpeg", "webp"].contains(&end.to_ascii_lowercase().as_str())
    };
    let all = data.keys().flat_map(|key| of(key));
    all.filter(|(_, address)| looks(address)).collect()
}

/// `/data/upload/3/7_1.png` is a path on the server: the file of that name is looked for beside the
/// export and in `--images`; with the part of the path that the server adds to a name, and without it.
fn locate(address: &str, finder: &Finder) -> Fallible<String> {
    if let Some((scheme, _)) = address.split_once("://")
        && scheme.starts_with("http")
    {
        return Err(crate::images::no_download(address));
    }
    let local = address.split_once("?d=").map_or(address, |(_, path)| path);
    let local = percent_decoded(local);
    let mut candidates = vec![local.clone()];
    let parts: Vec<&str> = local.split('/').filter(|part| !part.is_empty()).collect();
    for start in 0..parts.len() {
        candidates.push(parts[start..].join("/"));
    }
    if let Some(name) = Path::new(&local).file_name().and_then(|name| name.to_str())
        && let Some((prefix, rest)) = name.split_once('-')
        && prefix.len() == 8
        && prefix.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        // Uploads get eight digits before their name.
        candidates.push(rest.to_owned());
    }
    let mut found: Vec<(std::path::PathBuf, String)> = Vec::new();
    for candidate in candidates {
        if let Ok(file) = finder.file(&candidate) {
            let whole = file.canonicalize().unwrap_or(file);
            if !found.iter().any(|(known, _)| *known == whole) {
                found.push((whole, candidate));
            }
        }
    }
    match <[_; 1]>::try_from(found) {
        Ok([(_, path)]) => Ok(path),
        Err(found) if found.is_empty() => Err(Refusal::new(
            IMAGE_MISSING,
            format!("image not found: `{address}`; name the folder of the pages with `--images`"),
        )),
        Err(found) => {
            let names: Vec<String> = found.iter().map(|(_, path)| format!("`{path}`")).collect();
            let reason = format!("image `{address}` could be {}", names.join(" or "));
            Err(Refusal::new(IMAGE_AMBIGUOUS, reason))
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let is_hex = |two: &&str| two.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = digits
            .filter(is_hex)
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
