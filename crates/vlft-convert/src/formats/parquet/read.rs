//! Reading: any parquet file with the columns that TRL knows. Rows come one after the other, a few
//! values of each column at a time.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use serde_json::{Map, Value, json};
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::json::Step;
use vlft_dataset::record::Role;

use crate::chat::{self, Extra, OPENAI_ROLES, Open, Spelling};
use crate::fields::{Fallible, Object, wrong};
use crate::images;
use crate::rules::{COLUMN_DROPPED, IMAGE_UNREADABLE, MISSING_KEY, WRONG_TYPE};
use crate::sample::{Image, Refusal, Sample};
use crate::tags::Untold;

/// How many values of a column are decoded at once: of images, that many lie in memory.
const BATCH: usize = 8;

/// The rows of a file.
pub(crate) struct Rows<R: ChunkReader = File> {
    file: SerializedFileReader<R>,
    path: PathBuf,
    group: usize,
    rows: Option<ReaderIter>,
    done: bool,
}

impl Rows {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = input::open(path).map_err(|e| cannot("open", path, e))?;
        Self::new(file, path)
    }
}

impl<R: ChunkReader + 'static> Rows<R> {
    /// `path` is only named in messages.
    pub(crate) fn new(file: R, path: &Path) -> Result<Self> {
        let length = file.len();
        let file =
            guarded(|| SerializedFileReader::new(file)).map_err(|e| not_parquet(path, &e))?;
        check_columns(&file, length).map_err(|e| not_parquet(path, &e))?;
        let names: Vec<&str> = file
            .metadata()
            .file_metadata()
            .schema()
            .get_fields()
            .iter()
            .map(|field| field.name())
            .collect();
        let chat = ["messages", "prompt", "completion"];
        if !names.iter().any(|name| chat.contains(name)) {
            return Err(Diagnostic::error("the parquet file has no conversation")
                .at(path)
                .expected("a column `messages`, or `prompt` and `completion`")
                .found(vlft_base::one_of(names).replacen("one of ", "", 1)));
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            group: 0,
            rows: None,
            done: false,
        })
    }

    /// How many there are, as the file says.
    pub(crate) fn total(&self) -> u64 {
        let rows = self.file.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or(0)
    }

    /// The next row. After an error there is none: what follows cannot be found.
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        if self.done {
            return Ok(None);
        }
        let next = guarded(|| self.advance()).map_err(|e| not_parquet(&self.path, &e));
        self.done = !matches!(next, Ok(Some(_)));
        next
    }

    fn advance(&mut self) -> parquet::errors::Result<Option<Row>> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                return row.map(Some);
            }
            if self.group >= self.file.num_row_groups() {
                return Ok(None);
            }
            let group = self.file.get_row_group(self.group)?;
            let schema = self.file.metadata().file_metadata().schema_descr_ptr();
            let tree = TreeBuilder::new().with_batch_size(BATCH);
            self.rows = Some(tree.as_iter(schema, &*group)?);
            self.group += 1;
        }
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in code whose panics are caught and told as an error: a panic hook should not
/// call them a bug.
pub fn panics_are_expected() -> bool {
    GUARDED.get()
}

/// The library trusts a file's own numbers in places (levels within their maximum, lengths within a page)
/// and panics over lies: 14 of 2 500 files with a few wrong bytes, 2026-11. That is the file's error.
fn guarded<T>(work: impl FnOnce() -> parquet::errors::Result<T>) -> parquet::errors::Result<T> {
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    result.unwrap_or_else(|_| Err(ParquetError::General("the file contradicts itself".into())))
}

/// Every column must lie within the file; most lies end here.
fn check_columns<R: ChunkReader + 'static>(
    file: &SerializedFileReader<R>,
    length: u64,
) -> parquet::errors::Result<()> {
    let groups = file.metadata().row_groups();
    for column in groups.iter().flat_map(|group| group.columns()) {
        let start = column
            .dictionary_page_offset()
            .unwrap_or(column.data_page_offset());
        let size = column.compressed_size();
        let end = start
            .checked_add(size)
            .and_then(|end| u64::try_from(end).ok());
        if start < 0 || size < 0 || end.is_none_or(|end| end > length) {
            let reason =
                format!("a column from byte {start} of {size} bytes, in a file of {length}");
            return Err(ParquetError::General(reason));
        }
    }
    Ok(())
}

fn not_parquet(path: &Path, error: &ParquetError) -> Diagnostic {
    Diagnostic::error("the parquet file cannot be read")
        .at(path)
        .caused_by(error)
        .hint("copy it again; if it is whole, write it with `compression=\"snappy\"` or `\"zstd\"`")
}

pub(crate) fn sample(row: Row) -> Fallible<Sample> {
    let mut sample = Sample::default();
    let mut listed = Vec::new();
    let mut map = Map::new();
    for (name, field) in row.into_columns() {
        match name.as_str() {
            "images" | "image" => images_of(field, &name, &mut listed)?,
            _ if matches!(field, Field::Bytes(_)) => {
                sample.lose(COLUMN_DROPPED, format!("column `{name}` holds bytes"));
            }
            _ => {
                map.insert(name, value(field));
            }
        }
    }
    let mut row = Object::new(Value::Object(map), &[])?;
    row.refuse(&["tools", "chosen", "rejected", "videos", "audios"])?;
    let mut open = Vec::new();
    let columns: &[(&str, Role)] = match row.has("messages") {
        true => &[("messages", Role::User)],
        false => &[("prompt", Role::User), ("completion", Role::Assistant)],
    };
    for (name, role) in columns {
        let path = row.path(name);
        open.extend(conversation(row.need(name)?, *role, &path, &mut sample)?);
    }
    sample.turns = chat::close(open, listed, Untold::First)?;
    row.besides(&mut sample);
    Ok(sample)
}

/// A list of messages, or a text that one side says.
fn conversation(
    value: Value,
    role: Role,
    path: &[Step],
    sample: &mut Sample,
) -> Fallible<Vec<Open>> {
    let spelling = Spelling {
        role: "role",
        content: "content",
        roles: OPENAI_ROLES,
        tags: false,
        extra: Extra::OpenAi,
    };
    match value {
        Value::String(text) => Ok(vec![Open::says(role, &text, false)]),
        Value::Array(messages) => {
            let messages = messages.into_iter().map(without_nulls).collect();
            chat::messages(messages, path, &spelling, sample)
        }
        other => Err(wrong(path, "a list of messages or a text", &other)),
    }
}

/// A table fills every key of every struct; those that nobody set are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A list of images or one; each is `{bytes, path}`, bare bytes, or a path.
fn images_of(field: Field, name: &str, listed: &mut Vec<Image>) -> Fallible<()> {
    let path: Vec<Step> = vec![name.into()];
    match field {
        Field::Null => {}
        Field::ListInternal(list) => {
            for element in list.elements() {
                images_of(element.clone(), name, listed)?;
            }
        }
        Field::Bytes(bytes) => listed.push(Image::Bytes {
            bytes: bytes.data().to_vec(),
            name: None,
        }),
        Field::Str(address) => listed.push(images::from_address(&address, &path)?),
        Field::Group(row) => {
            let (mut bytes, mut called) = (None, None);
            for (key, field) in row.into_columns() {
                match (key.as_str(), field) {
                    ("bytes", Field::Bytes(data)) => bytes = Some(data),
                    ("path", Field::Str(path)) => called = Some(path),
                    (_, Field::Null) => {}
                    (key, _) => {
                        let reason = format!("an image has `{key}` of an unexpected type");
                        return Err(Refusal::new(WRONG_TYPE, reason).at(&path));
                    }
                }
            }
            listed.push(match (bytes, called) {
                (Some(bytes), name) => Image::Bytes {
                    bytes: bytes.data().to_vec(),
                    name,
                },
                (None, Some(address)) => images::from_address(&address, &path)?,
                (None, None) => {
                    let reason = "an image with neither bytes nor path";
                    return Err(Refusal::new(IMAGE_UNREADABLE, reason).at(&path));
                }
            });
        }
        _ => {
            let reason = format!("column `{name}` holds no images");
            return Err(Refusal::new(MISSING_KEY, reason).at(&path));
        }
    }
    Ok(())
}

/// As JSON; bytes as base64, which is how images inside messages are read.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Byte(value) => json!(value),
        Field::Short(value) => json!(value),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => json!(value),
        Field::Long(value)
        | Field::TimeMicros(value)
        | Field::TimestampMillis(value)
        | Field::TimestampMicros(value) => json!(value),
        Field::UByte(value) => json!(value),
        Field::UShort(value) => json!(value),
        Field::UInt(value) => json!(value),
        Field::ULong(value) => json!(value),
        Field::Float16(value) => json!(value.to_f32()),
        Field::Float(value) => json!(value),
        Field::Double(value) => json!(value),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => Value::String(STANDARD.encode(bytes.data())),
        Field::Group(row) => row
            .into_columns()
            .into_iter()
            .map(|(key, field)| (key, value(field)))
            .collect(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let pair = |(key, field): &(Field, Field)| (key.to_string(), value(field.clone()));
            map.entries().iter().map(pair).collect()
        }
        Field::Decimal(_) => Value::String(field.to_string()),
    }
}
