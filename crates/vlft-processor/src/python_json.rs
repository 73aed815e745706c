//! `tojson` as transformers defines it for chat templates: Python's `json.dumps` without HTML
//! escapes. Jinja's own filter escapes `<`, `>`, `&` and `'`; a model was never trained on that.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// `x | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`
pub(crate) fn tojson(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let argument = |position: usize, name: &str| -> Result<Option<Value>, Error> {
        match args.get(position) {
            Some(value) => Ok(Some(value.clone())),
            None => kwargs.get::<Option<Value>>(name),
        }
    };
    let truth = |value: Option<Value>| value.is_some_and(|v| v.is_true());
    let ensure_ascii = truth(argument(0, "ensure_ascii")?);
    let indent = match argument(1, "indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(value)?),
        }),
    };
    let separators = match argument(2, "separators")? {
        Some(pair) if !pair.is_none() => (
            pair.get_item_by_index(0)?.to_string(),
            pair.get_item_by_index(1)?.to_string(),
        ),
        _ if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        _ => (", ".to_owned(), ": ".to_owned()),
    };
    let sort_keys = truth(argument(3, "sort_keys")?);
    kwargs.assert_all_used()?;
    let mut writer = Writer {
        out: String::new(),
        depth: 0,
        ensure_ascii,
        indent,
        separators,
        sort_keys,
    };
    writer.value(value)?;
    Ok(Value::from(writer.out))
}

struct Writer {
    out: String,
    depth: usize,
    ensure_ascii: bool,
    indent: Option<String>,
    /// Between items, and between key and value.
    separators: (String, String),
    sort_keys: bool,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items(('[', ']'), &items, |writer, item| writer.value(item))?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((self.key(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.items(('{', '}'), &entries, |writer, (key, value)| {
                    writer.string(key);
                    writer.out.push_str(&writer.separators.1.clone());
                    writer.value(value)
                })?;
            }
            other => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("an object of type {other} is not JSON serializable"),
                ));
            }
        }
        Ok(())
    }

    fn items<T>(
        &mut self,
        (open, close): (char, char),
        items: &[T],
        write: impl Fn(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        self.depth += 1;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.separators.0.clone());
            }
            self.new_line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.new_line();
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
    }

    /// Python turns the keys it can into strings.
    fn key(&self, key: &Value) -> Result<String, Error> {
        match key.kind() {
            ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
            ValueKind::None => Ok("null".to_owned()),
            ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
            ValueKind::Number if key.is_integer() => Ok(key.to_string()),
            ValueKind::Number => Ok(float(f64::try_from(key.clone())?)),
            other => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("JSON keys must be strings, not {other}"),
            )),
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            self.out.push_str(&value.to_string());
        } else {
            self.out.push_str(&float(f64::try_from(value.clone())?));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").expect("a string takes everything");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Python's `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific
        .split_once('e')
        .expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("a decimal exponent");
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = value.to_string();
        if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts are what Python 3.11's `json.dumps(x, ensure_ascii=False, ..)` prints.
    #[test]
    fn as_python_prints_it() {
        let mut env = minijinja::Environment::new();
        env.add_filter("tojson", tojson);
        let floats = [2.0, 1e-5, 1e16, 1e-4, -0.0, 1.5e300];
        let mixed = r#"{"b":[1],"a":{"<é'>":null,"ok":true},"e":[],"o":{}}"#;
        let mixed: serde_json::Value = serde_json::from_str(mixed).expect("valid JSON");
        for (expression, expected) in [
            (
                "floats | tojson",
                "[2.0, 1e-05, 1e+16, 0.0001, -0.0, 1.5e+300]",
            ),
            (
                "mixed | tojson",
                r#"{"b": [1], "a": {"<é'>": null, "ok": true}, "e": [], "o": {}}"#,
            ),
            (
                "mixed.a | tojson(separators=(',', ':'))",
                r#"{"<é'>":null,"ok":true}"#,
            ),
            (
                "mixed | tojson(sort_keys=true)",
                r#"{"a": {"<é'>": null, "ok": true}, "b": [1], "e": [], "o": {}}"#,
            ),
            (
                "mixed | tojson(indent=2)",
                "{\n  \"b\": [\n    1\n  ],\n  \"a\": {\n    \"<é'>\": null,\n    \"ok\": true\n  },\n  \"e\": [],\n  \"o\": {}\n}",
            ),
            ("{'k': 1} | tojson(false, 1)", "{\n \"k\": 1\n}"),
            ("{3: 4, none: 5} | tojson", r#"{"3": 4, "null": 5}"#),
            (
                "'😀\u{7f}/\u{1}é' | tojson(ensure_ascii=true)",
                r#""\ud83d\ude00\u007f/\u0001\u00e9""#,
            ),
            (r#"'"\\\n' | tojson"#, r#""\"\\\n""#),
        ] {
            let template = format!("{{{{ {expression} }}}}");
            let mixed = Value::from(minijinja::value::Serde(&mixed));
            let context = minijinja::context! { floats, mixed };
            assert_eq!(
                env.render_str(&template, context).unwrap(),
                expected,
                "{expression}"
            );
        }
    }
}
