//! `results.json` as such files really look: a flat array, one row per container with the document's
//! fields repeated, names spelt as somebody typed them, and gaps.

use serde::Serialize;
use serde_json::{Value, json};

use super::bill::Bill;
use super::file_names::FileName;

/// The columns, in the order of the file.
#[derive(Clone, Serialize)]
pub(crate) struct Row {
    #[serde(rename = "Filename")]
    filename: String,
    consignee_name: Value,
    bl_number: String,
    port_of_loading: Value,
    port_of_discharge: Value,
    vessel_name: Value,
    detention_free_days: Value,
    demurrage_free_days: Value,
    combined_free_days: Value,
    #[serde(rename = "Container_Number")]
    container_number: String,
    #[serde(rename = "Container_Size")]
    container_size: Value,
    #[serde(rename = "Container_Type")]
    container_type: Value,
}

/// The rows of document `index`. Habits take turns over the documents: one clerk left the extension
/// away, another typed days as text, a third left a field empty.
pub(crate) fn rows(index: usize, bill: &Bill, name: &FileName) -> Vec<Row> {
    let nothing = if index % 6 == 1 {
        json!("")
    } else {
        Value::Null
    };
    let days = |days: Option<i32>| match days {
        Some(days) if index % 9 == 4 => json!(days.to_string()),
        Some(days) => json!(days),
        None => nothing.clone(),
    };
    let filename = match index % 7 {
        3 => name.stem.clone(),
        5 => format!("{}.{}", name.stem, other_case(name.extension)),
        6 if index.is_multiple_of(2) => name.full().to_lowercase(),
        _ => name.full(),
    };
    let vessel_name = if index % 17 == 9 {
        json!("")
    } else {
        json!(bill.vessel)
    };
    let port_of_loading = if index % 23 == 14 {
        Value::Null
    } else {
        json!(bill.loading)
    };
    bill.containers
        .iter()
        .map(|container| Row {
            filename: filename.clone(),
            consignee_name: json!(bill.consignee.name),
            bl_number: bill.number.clone(),
            port_of_loading: port_of_loading.clone(),
            port_of_discharge: json!(bill.discharge),
            vessel_name: vessel_name.clone(),
            detention_free_days: days(bill.free_time.detention()),
            demurrage_free_days: days(bill.free_time.demurrage()),
            combined_free_days: days(bill.free_time.combined()),
            container_number: container.number.clone(),
            container_size: if index % 5 == 2 {
                json!(container.size)
            } else {
                json!(container.size.to_string())
            },
            container_type: if index % 19 == 10 {
                Value::Null
            } else {
                json!(container.kind)
            },
        })
        .collect()
}

/// The whole truth about a document, as a trained model should tell it.
pub(crate) fn answer(bill: &Bill) -> Value {
    let containers: Vec<Value> = bill
        .containers
        .iter()
        .map(|c| json!({ "number": c.number, "size": c.size.to_string(), "type": c.kind }))
        .collect();
    json!({
        "consignee_name": bill.consignee.name,
        "bl_number": bill.number,
        "port_of_loading": bill.loading,
        "port_of_discharge": bill.discharge,
        "vessel_name": bill.vessel,
        "detention_free_days": bill.free_time.detention(),
        "demurrage_free_days": bill.free_time.demurrage(),
        "combined_free_days": bill.free_time.combined(),
        "containers": containers,
    })
}

fn other_case(extension: &str) -> String {
    if extension == extension.to_lowercase() {
        extension.to_uppercase()
    } else {
        extension.to_lowercase()
    }
}

/// One row a line, so that a person can read it and a diff is short.
pub(crate) fn to_json(rows: &[Row]) -> Vec<u8> {
    let lines: Vec<String> = rows
        .iter()
        .map(|row| serde_json::to_string(row).expect("strings and numbers serialise"))
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n")).into_bytes()
}
