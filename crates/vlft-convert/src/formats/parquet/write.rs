//! Writing: rows are gathered until they make a row group, then go out column by column, so the memory
//! holds one group and never the file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use serde_json::{Value, json};
use vlft_base::output::{Existing, PartialFile};
use vlft_base::{Diagnostic, Result};
use vlft_dataset::record::Role;

use super::super::{meta_text, weight};
use crate::fields::Fallible;
use crate::images::Finder;
use crate::rules::TURN_TRAINED;
use crate::sample::{Image, Loss, Piece, Sample, Turn};

/// Which columns hold the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// What TRL trains a vision model's answers with, and nothing but the answers.
    PromptCompletion,
    Messages,
}

impl Shape {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Shape::PromptCompletion => &["prompt", "completion"],
            Shape::Messages => &["messages"],
        }
    }
}

/// One record as columns hold it.
pub(crate) struct Row {
    id: Option<String>,
    /// Bytes and a name for people.
    images: Vec<(Vec<u8>, String)>,
    /// One conversation per column of the shape.
    chats: Vec<Vec<Message>>,
    meta: Option<String>,
}

struct Message {
    role: &'static str,
    /// `None` is an image.
    parts: Vec<Option<String>>,
}

impl Row {
    fn bytes(&self) -> usize {
        let images: usize = self.images.iter().map(|(bytes, _)| bytes.len()).sum();
        let parts = self
            .chats
            .iter()
            .flatten()
            .flat_map(|message| &message.parts);
        let texts: usize = parts.flatten().map(String::len).sum();
        images + texts + 64
    }
}

pub(crate) fn row(
    sample: &Sample,
    shape: Shape,
    finder: &Finder,
    losses: &mut Vec<Loss>,
) -> Fallible<Row> {
    let mut images = Vec::new();
    for (index, image) in sample.images().enumerate() {
        let (bytes, kind) = finder.bytes(image)?;
        let name = match image {
            Image::Path(path) => path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned(),
            Image::Bytes {
                name: Some(name), ..
            } => name.clone(),
            Image::Bytes { .. } | Image::Url(_) => format!("{index}.{}", kind.extension),
        };
        images.push((bytes.into_owned(), name));
    }
    let message = |turn: &Turn| Message {
        role: turn.role.as_str(),
        parts: turn
            .content
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.clone()),
                Piece::Image(_) => None,
            })
            .collect(),
    };
    let mut messages: Vec<Message> = sample.turns.iter().map(message).collect();
    let chats = match shape {
        Shape::Messages => vec![messages],
        Shape::PromptCompletion => {
            let earlier = sample
                .turns
                .iter()
                .filter(|turn| turn.role == Role::Assistant);
            let earlier = earlier.count().saturating_sub(1);
            if earlier > 0 {
                losses.push(Loss {
                    rule: TURN_TRAINED,
                    reason: format!(
                        "{} before the last: in the prompt, and not trained on there",
                        vlft_base::format::count(earlier as u64, "answer")
                    ),
                });
            }
            let completion = messages.split_off(messages.len().saturating_sub(1));
            vec![messages, completion]
        }
    };
    weight(sample, losses);
    Ok(Row {
        id: sample.id.clone(),
        images,
        chats,
        meta: meta_text(sample),
    })
}

/// A group is written when it holds this much. `datasets` reads whole groups, so that they must not be
/// large; its own writer takes 100 rows for columns of images.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_ROWS: usize = 1000;

pub(crate) struct Writer {
    file: SerializedFileWriter<PartialFile>,
    path: PathBuf,
    rows: Vec<Row>,
    bytes: usize,
}

impl Writer {
    pub(crate) fn create(path: &Path, shape: Shape, existing: Existing) -> Result<Self> {
        let file = PartialFile::create(path, existing)?;
        let schema = parse_message_type(&schema(shape)).expect("a test parses both schemas");
        let images = ["images", "list", "element", "bytes"].map(str::to_owned);
        let images = ColumnPath::new(images.to_vec());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("vlft version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_statistics_enabled(EnabledStatistics::None)
            // Every record has its own texts and images; PNG and JPEG are compressed already.
            .set_dictionary_enabled(false)
            .set_column_compression(images, Compression::UNCOMPRESSED)
            // Small pages: whoever reads one row unpacks one page.
            .set_write_batch_size(4)
            .set_data_page_size_limit(1 << 20)
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "huggingface".to_owned(),
                features(shape).to_string(),
            )]))
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            file: writer.map_err(|e| failed(path, e))?,
            path: path.to_path_buf(),
            rows: Vec::new(),
            bytes: 0,
        })
    }

    pub(crate) fn write(&mut self, row: Row) -> Result<()> {
        self.bytes += row.bytes();
        self.rows.push(row);
        match self.bytes >= GROUP_BYTES || self.rows.len() >= GROUP_ROWS {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        self.group(&rows).map_err(|e| failed(&self.path, e))
    }

    fn group(&mut self, rows: &[Row]) -> parquet::errors::Result<()> {
        let mut group = self.file.next_row_group()?;
        let mut columns = columns(rows).into_iter();
        while let Some(mut column) = group.next_column()? {
            let leaf = columns
                .next()
                .expect("a test compares the columns with the schema");
            column.typed::<ByteArrayType>().write_batch(
                &leaf.values,
                Some(&leaf.definitions),
                Some(&leaf.repetitions),
            )?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    pub(crate) fn commit(mut self) -> Result<()> {
        self.flush()?;
        let path = self.path;
        let mut file = self.file.into_inner().map_err(|e| failed(&path, e))?;
        file.flush()
            .map_err(|e| vlft_base::output::cannot("write", &path, e))?;
        file.commit()
    }
}

fn failed(path: &Path, error: parquet::errors::ParquetError) -> Diagnostic {
    Diagnostic::error("cannot write the parquet file")
        .at(path)
        .caused_by(error)
}

/// A list as Arrow writes it: three levels.
fn list(name: &str, element: &str) -> String {
    format!(
        "optional group {name} (LIST) {{ repeated group list {{ optional group element {{ {element} }} }} }}"
    )
}

fn schema(shape: Shape) -> String {
    let text = |name: &str| format!("optional binary {name} (STRING);");
    let images = list(
        "images",
        &format!("optional binary bytes; {}", text("path")),
    );
    let parts = list("content", &format!("{} {}", text("text"), text("type")));
    let message = format!("{parts} {}", text("role"));
    let chats: Vec<String> = shape
        .columns()
        .iter()
        .map(|name| list(name, &message))
        .collect();
    format!(
        "message schema {{ {} {images} {} {} }}",
        text("id"),
        chats.join(" "),
        text("meta")
    )
}

/// What `datasets` keeps in the schema so that it reads images as images. Lists are written as lists of
/// one feature, which every version of it reads.
fn features(shape: Shape) -> Value {
    let text = || json!({ "dtype": "string", "_type": "Value" });
    let message = json!([{ "content": [{ "text": text(), "type": text() }], "role": text() }]);
    let mut features = serde_json::Map::new();
    features.insert("id".to_owned(), text());
    features.insert("images".to_owned(), json!([{ "_type": "Image" }]));
    for name in shape.columns() {
        features.insert((*name).to_owned(), message.clone());
    }
    features.insert("meta".to_owned(), text());
    json!({ "info": { "features": features } })
}

/// The values of one column of leaves with their levels (Dremel's: how much of the path is there, and
/// at which list a value goes on).
#[derive(Default)]
struct Leaf {
    values: Vec<ByteArray>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl Leaf {
    fn push(&mut self, repetition: i16, definition: i16, value: Option<&[u8]>) {
        self.repetitions.push(repetition);
        self.definitions.push(definition);
        self.values
            .extend(value.map(|value| ByteArray::from(value.to_vec())));
    }
}

/// All leaves in the order of the schema.
fn columns(rows: &[Row]) -> Vec<Leaf> {
    let chats = rows.first().map_or(0, |row| row.chats.len());
    let mut columns = vec![optional(rows, |row| row.id.as_deref())];
    columns.extend(images(rows));
    for chat in 0..chats {
        columns.extend(messages(rows, chat));
    }
    columns.push(optional(rows, |row| row.meta.as_deref()));
    columns
}

fn optional<'a>(rows: &'a [Row], value: impl Fn(&'a Row) -> Option<&'a str>) -> Leaf {
    let mut leaf = Leaf::default();
    for row in rows {
        let value = value(row).map(str::as_bytes);
        leaf.push(0, i16::from(value.is_some()), value);
    }
    leaf
}

/// `images.list.element.{bytes, path}`: list 1, entry 2, element 3, value 4.
fn images(rows: &[Row]) -> [Leaf; 2] {
    let [mut bytes, mut paths] = [Leaf::default(), Leaf::default()];
    for row in rows {
        if row.images.is_empty() {
            bytes.push(0, 1, None);
            paths.push(0, 1, None);
        }
        for (index, (data, name)) in row.images.iter().enumerate() {
            let repetition = i16::from(index > 0);
            bytes.push(repetition, 4, Some(data));
            paths.push(repetition, 4, Some(name.as_bytes()));
        }
    }
    [bytes, paths]
}

/// `CHAT.list.element.content.list.element.{text, type}` and `CHAT.list.element.role`: list 1, entry 2,
/// message 3, content 4 (role: 4), entry 5, part 6, value 7.
fn messages(rows: &[Row], chat: usize) -> [Leaf; 3] {
    let [mut texts, mut kinds, mut roles] = [Leaf::default(), Leaf::default(), Leaf::default()];
    for row in rows {
        let messages = &row.chats[chat];
        if messages.is_empty() {
            for leaf in [&mut texts, &mut kinds, &mut roles] {
                leaf.push(0, 1, None);
            }
        }
        for (m, message) in messages.iter().enumerate() {
            let repetition = i16::from(m > 0);
            roles.push(repetition, 4, Some(message.role.as_bytes()));
            if message.parts.is_empty() {
                texts.push(repetition, 4, None);
                kinds.push(repetition, 4, None);
            }
            for (p, part) in message.parts.iter().enumerate() {
                let repetition = if p > 0 { 2 } else { repetition };
                let kind: &[u8] = if part.is_some() { b"text" } else { b"image" };
                kinds.push(repetition, 7, Some(kind));
                let text = part.as_ref().map(String::as_bytes);
                texts.push(repetition, if text.is_some() { 7 } else { 6 }, text);
            }
        }
    }
    [texts, kinds, roles]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_the_schemas_has_its_column() {
        for shape in [Shape::PromptCompletion, Shape::Messages] {
            let parsed = Arc::new(parse_message_type(&schema(shape)).unwrap());
            let leaves = parquet::schema::types::SchemaDescriptor::new(parsed);
            let row = Row {
                id: None,
                images: Vec::new(),
                chats: shape.columns().iter().map(|_| Vec::new()).collect(),
                meta: None,
            };
            assert_eq!(columns(&[row]).len(), leaves.num_columns());
        }
    }
}
