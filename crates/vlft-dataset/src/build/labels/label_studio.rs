//! Label Studio exports as rows: one row per annotation that counts, with the task's `data` and one
//! column per label or control. A region that has a label and a text (a box `total` with `12.00` in
//! it) gives the text to the column named like the label; what belongs to the whole task gives its
//! value to the column named like its control. The flattened export (JSON-MIN) has rows already.
//!
//! Boxes themselves are not read: the target is what a page says, not where.

use serde_json::{Map, Value};

use super::{Labels, LabelsKind, Row, Unlabelled};
use crate::build::mapping::Annotations;

/// The rows as they are, or those that an export amounts to.
pub(super) fn recognise(rows: Vec<Row>, annotations: Annotations) -> Labels {
    let all = |is: fn(&Row) -> bool| !rows.is_empty() && rows.iter().all(is);
    if all(is_task) {
        let mut labels = Labels {
            kind: LabelsKind::LabelStudio,
            ..Labels::default()
        };
        for task in &rows {
            add_task(task, annotations, &mut labels);
        }
        return labels;
    }
    if all(is_flattened) {
        let rows = rows.into_iter().map(|mut row| {
            for value in row.values.values_mut() {
                let found = std::mem::take(value);
                *value = one_of_equal(texts(clean(found)));
            }
            row
        });
        return Labels {
            rows: rows.collect(),
            kind: LabelsKind::LabelStudioMin,
            ..Labels::default()
        };
    }
    Labels {
        rows,
        ..Labels::default()
    }
}

fn is_task(row: &Row) -> bool {
    let annotations = annotations_of(row);
    row.values.get("data").is_some_and(Value::is_object) && annotations.is_some()
}

fn annotations_of(row: &Row) -> Option<&Vec<Value>> {
    // Exports of before 2021 say `completions`.
    let found = row.values.get("annotations");
    found.or_else(|| row.values.get("completions"))?.as_array()
}

fn is_flattened(row: &Row) -> bool {
    let has = |key: &str| row.values.contains_key(key);
    has("annotation_id") && has("annotator") && has("lead_time")
}

fn add_task(task: &Row, wanted: Annotations, labels: &mut Labels) {
    let annotations = annotations_of(task).map_or(&[][..], Vec::as_slice);
    let is_true = |a: &Value, key: &str| a.get(key).and_then(Value::as_bool) == Some(true);
    let mut counting: Vec<&Value> = annotations
        .iter()
        .filter(|a| !is_true(a, "was_cancelled") && !is_true(a, "skipped"))
        .collect();
    if counting.is_empty() {
        let why = match annotations.len() {
            0 => "nobody has annotated it",
            _ => "all its annotations were skipped",
        };
        labels.unlabelled.push(Unlabelled {
            why: why.to_owned(),
            place: task.place(),
        });
        return;
    }
    if counting.iter().any(|a| is_true(a, "ground_truth")) {
        counting.retain(|a| is_true(a, "ground_truth"));
    } else if wanted == Annotations::Latest {
        // ISO 8601 in UTC sorts as text.
        let time = |a: &Value| {
            let time = a.get("updated_at").or_else(|| a.get("created_at"));
            time.and_then(Value::as_str).unwrap_or("").to_owned()
        };
        counting.sort_by_key(|a| time(a));
        counting.drain(..counting.len() - 1);
    }
    for annotation in counting {
        labels.rows.push(Row {
            file: task.file.clone(),
            line: task.line,
            file_stem: None,
            values: columns(task, annotation),
        });
    }
}

/// The values of one annotation by column, beside those of the task.
fn columns(task: &Row, annotation: &Value) -> Map<String, Value> {
    let mut found: Vec<(String, Vec<Value>)> = Vec::new();
    let mut add = |column: &str, values: Vec<Value>| match found
        .iter_mut()
        .find(|(name, _)| name == column)
    {
        Some((_, known)) => known.extend(values),
        None => found.push((column.to_owned(), values)),
    };
    for region in regions(annotation) {
        for label in &region.labels {
            let contents = region.contents.iter().flat_map(|(_, v)| v.clone());
            add(label, contents.collect());
        }
        if region.labels.is_empty() {
            for (control, values) in region.contents {
                add(control, values);
            }
        }
    }
    let mut columns = Map::new();
    let data = task.values.get("data").and_then(Value::as_object);
    for (key, value) in data.into_iter().flatten() {
        let is_taken = found.iter().any(|(name, _)| name == key);
        let key = match is_taken {
            true => format!("data.{key}"),
            false => key.clone(),
        };
        columns.insert(key, clean(value.clone()));
    }
    for (column, values) in found {
        columns.insert(column, one_of_equal(values));
    }
    columns
}

/// Everything that was said of one region, or of the whole task by one control.
struct Region<'a> {
    id: Option<&'a str>,
    labels: Vec<&'a str>,
    /// By control.
    contents: Vec<(&'a str, Vec<Value>)>,
}

/// Results with one id are one region.
fn regions(annotation: &Value) -> Vec<Region<'_>> {
    let mut regions: Vec<Region<'_>> = Vec::new();
    let results = annotation.get("result").and_then(Value::as_array);
    for result in results.into_iter().flatten() {
        let text = |key: &str| result.get(key).and_then(Value::as_str);
        let (Some(kind), Some(control), Some(value)) =
            (text("type"), text("from_name"), result.get("value"))
        else {
            // A relation between two regions says nothing of a page.
            continue;
        };
        let id = text("id");
        let known = regions.iter().position(|r| id.is_some() && r.id == id);
        let region = known.unwrap_or(regions.len());
        if known.is_none() {
            regions.push(Region {
                id,
                labels: Vec::new(),
                contents: Vec::new(),
            });
        }
        let region = &mut regions[region];
        if kind == "labels" || kind.ends_with("labels") {
            let names = value.get(kind).and_then(Value::as_array);
            let names = names.into_iter().flatten().filter_map(Value::as_str);
            region.labels.extend(names);
            // A label on a piece of text carries the text itself.
            if let Some(text) = value.get("text").filter(|_| kind == "labels") {
                region.contents.push((control, texts(text.clone())));
            }
        } else {
            let content = match kind {
                "textarea" => value.get("text"),
                other => value.get(other),
            };
            let values = content.cloned().map(texts).unwrap_or_default();
            region.contents.push((control, values));
        }
    }
    regions
}

/// A list of values, whether one or several were written.
fn texts(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        // The flattened export writes several choices so.
        Value::Object(mut map) if map.len() == 1 && map.contains_key("choices") => {
            texts(map.remove("choices").unwrap_or_default())
        }
        value => vec![value],
    }
}

/// One value where all agree; otherwise all of them, which only a list can hold.
fn one_of_equal(mut values: Vec<Value>) -> Value {
    values.dedup();
    match values.len() {
        0 => Value::Null,
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}

/// A path on the server as the name of the file that was given to it.
fn clean(value: Value) -> Value {
    let Value::String(text) = &value else {
        return value;
    };
    if let Some((_, path)) = text.split_once("/data/local-files/?d=") {
        return Value::from(percent_decoded(path));
    }
    let Some(rest) = text.strip_prefix("/data/upload/") else {
        return value;
    };
    let name = rest.rsplit('/').next().unwrap_or(rest);
    Value::from(percent_decoded(without_upload_prefix(name)))
}

/// The server puts eight hexadecimal digits and a dash before the name of an uploaded file.
fn without_upload_prefix(name: &str) -> &str {
    match name.split_once('-') {
        Some((prefix, rest))
            if prefix.len() == 8
                && !rest.is_empty()
                && prefix.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            rest
        }
        _ => name,
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    // What decodes to no text was not encoded.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(tasks: Value) -> Vec<Row> {
        let tasks = tasks.as_array().unwrap().clone();
        tasks
            .into_iter()
            .zip(1..)
            .map(|(task, line)| Row {
                file: "export.json".into(),
                line,
                file_stem: None,
                values: task.as_object().unwrap().clone(),
            })
            .collect()
    }

    fn values(labels: &Labels) -> Vec<Value> {
        labels.rows.iter().map(|r| json!(r.values)).collect()
    }

    fn boxed(id: &str, label: &str, text: Value) -> [Value; 2] {
        let at = json!({"x": 10, "y": 4.5, "width": 20, "height": 2, "rotation": 0});
        let with = |key: &str, value: Value| {
            let mut at = at.clone();
            at[key] = value;
            at
        };
        [
            json!({"id": id, "from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": with("rectanglelabels", json!([label]))}),
            json!({"id": id, "from_name": "text", "to_name": "image", "type": "textarea", "value": with("text", text)}),
        ]
    }

    #[test]
    fn a_box_with_a_text_is_a_value_under_its_label() {
        let mut result = boxed("r1", "total", json!(["12.00"])).to_vec();
        result.extend(boxed("r2", "container", json!(["MSKU1"])));
        result.extend(boxed("r3", "container", json!(["MSKU2"])));
        result.extend(boxed("r4", "port", json!(["Genoa"])));
        result.extend(boxed("r5", "port", json!(["Genoa"])));
        result.push(boxed("r6", "seal", json!([]))[0].clone());
        result.push(json!({"id": "c1", "from_name": "kind", "to_name": "image", "type": "choices", "value": {"choices": ["original"]}}));
        result.push(json!({"id": "n1", "from_name": "free_days", "to_name": "image", "type": "number", "value": {"number": 14}}));
        result.push(json!({"type": "relation", "from_id": "r1", "to_id": "r2"}));
        let labels = recognise(
            rows(
                json!([{"id": 7, "data": {"image": "/data/upload/3/0a1b2c3d-7%201.png", "kind": "x"},
                "annotations": [{"id": 70, "was_cancelled": false, "result": result}], "predictions": []}]),
            ),
            Annotations::Agree,
        );
        assert_eq!(labels.kind, LabelsKind::LabelStudio);
        assert_eq!(
            values(&labels),
            [
                json!({"image": "7 1.png", "data.kind": "x", "total": "12.00", "container": ["MSKU1", "MSKU2"],
                "port": "Genoa", "seal": null, "kind": "original", "free_days": 14})
            ]
        );
    }

    #[test]
    fn which_annotations_count() {
        let said = |text: &str, more: Value| {
            let mut annotation = json!({"result": [{"id": "a", "from_name": "bl", "to_name": "i", "type": "textarea", "value": {"text": [text]}}]});
            for (key, value) in more.as_object().unwrap() {
                annotation[key] = value.clone();
            }
            annotation
        };
        let old = said("old", json!({"updated_at": "2026-01-01T00:00:00Z"}));
        let new = said("new", json!({"updated_at": "2026-01-02T00:00:00Z"}));
        let truth = said("true", json!({"ground_truth": true}));
        let skipped = said("skipped", json!({"was_cancelled": true}));
        for (annotations, wanted, expected) in [
            (
                json!([new, old, skipped]),
                Annotations::Agree,
                &["new", "old"][..],
            ),
            (json!([new, old, skipped]), Annotations::Latest, &["new"]),
            (json!([new, truth, old]), Annotations::Agree, &["true"]),
            (json!([skipped]), Annotations::Agree, &[]),
            (json!([]), Annotations::Latest, &[]),
        ] {
            let labels = recognise(
                rows(json!([{"data": {"pdf": "a.pdf"}, "annotations": annotations}])),
                wanted,
            );
            let found: Vec<&str> = labels
                .rows
                .iter()
                .map(|r| r.values["bl"].as_str().unwrap())
                .collect();
            assert_eq!(found, expected);
            assert_eq!(labels.unlabelled.len(), usize::from(expected.is_empty()));
        }
    }

    #[test]
    fn the_flattened_export_and_paths_of_the_server() {
        let labels = recognise(
            rows(
                json!([{"image": "/data/local-files/?d=pages/a%20b_1.png", "id": 1, "annotator": 2, "annotation_id": 3,
                "lead_time": 4.5, "bl": "B1", "kind": {"choices": ["x", "y"]}, "note": ["n"]}]),
            ),
            Annotations::Agree,
        );
        assert_eq!(labels.kind, LabelsKind::LabelStudioMin);
        let row = &values(&labels)[0];
        assert_eq!(row["image"], "pages/a b_1.png");
        assert_eq!(
            (&row["kind"], &row["note"]),
            (&json!(["x", "y"]), &json!("n"))
        );
        for (path, name) in [
            ("/data/upload/3/20170101-a.pdf", "a.pdf"),
            ("/data/upload/3/2017-a.pdf", "2017-a.pdf"),
            ("/data/upload/3/%zz%4", "%zz%4"),
            ("/data/upload/3/%ff.pdf", "%ff.pdf"),
            ("s3://bucket/0a1b2c3d-a.pdf", "s3://bucket/0a1b2c3d-a.pdf"),
        ] {
            assert_eq!(clean(json!(path)), json!(name));
        }
        let plain = recognise(
            rows(json!([{"data": "x", "annotations": []}])),
            Annotations::Agree,
        );
        assert_eq!(plain.kind, LabelsKind::Rows);
    }
}
