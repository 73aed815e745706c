//! One cell of the labels becomes a value of its type, or is refused. Nothing is guessed: a text
//! becomes a number, or a date another date, only in the way that the mapping says.

use jiff::civil::Date;
use serde_json::{Number, Value};

use super::mapping::{CellRules, Decimal, FieldKind};

/// A cell as the type of its field. White space around texts goes; what means "no value" becomes the
/// default, or null; then the table; then the type.
pub(crate) fn convert(cell: &Value, rules: CellRules<'_>) -> Result<Value, String> {
    let text = match cell {
        Value::String(text) => Some(text.trim()),
        _ => None,
    };
    if is_null(cell, rules.null) {
        return match rules.default {
            // The mapping was checked: a default converts, and has none itself.
            Some(default) => convert(
                default,
                CellRules {
                    default: None,
                    table: None,
                    strict: false,
                    ..rules
                },
            ),
            None => Ok(Value::Null),
        };
    }
    let cell = match text {
        Some(text) => Value::from(text),
        None => cell.clone(),
    };
    let cell = looked_up(cell, rules)?;
    let value = match (rules.kind, &cell) {
        (FieldKind::Date, Value::String(text)) if !rules.dates.is_empty() => {
            return date(text, rules);
        }
        (FieldKind::String | FieldKind::Date, Value::String(_)) => Some(cell.clone()),
        (FieldKind::String, Value::Number(number)) => Some(Value::from(plain(number))),
        (FieldKind::Integer, Value::Number(number)) => integer(number),
        (FieldKind::Integer, Value::String(text)) => {
            number(text, rules.decimal).and_then(|n| integer(&n))
        }
        // One spelling per number: the model should not learn that 2 and 2.0 differ.
        (FieldKind::Number, Value::Number(n)) => integer(n).or_else(|| Some(cell.clone())),
        (FieldKind::Number, Value::String(text)) => {
            number(text, rules.decimal).map(|n| integer(&n).unwrap_or(Value::Number(n)))
        }
        (FieldKind::Boolean, Value::Bool(_)) => Some(cell.clone()),
        (FieldKind::Boolean, other) => {
            let text = other
                .as_str()
                .map_or_else(|| other.to_string(), str::to_lowercase);
            match text.as_str() {
                "true" | "yes" | "1" => Some(Value::Bool(true)),
                "false" | "no" | "0" => Some(Value::Bool(false)),
                _ => None,
            }
        }
        _ => None,
    };
    value.ok_or_else(|| {
        let wanted = match rules.kind {
            FieldKind::String => "a text",
            FieldKind::Integer => "a whole number",
            FieldKind::Number => "a number",
            FieldKind::Boolean => "yes or no",
            FieldKind::Date => "a date as text",
            FieldKind::List => "a list",
        };
        let refused = format!("expected {wanted}, found `{cell}`");
        match (rules.kind, rules.decimal, cell.as_str()) {
            (FieldKind::Integer | FieldKind::Number, None, Some(text))
                if number(text, Some(Decimal::Comma)).is_some()
                    || number(text, Some(Decimal::Point)).is_some() =>
            {
                refused + "; say `decimal = \"comma\"` or `\"point\"` in the mapping"
            }
            _ => refused,
        }
    })
}

/// Whether a cell says "no value".
pub(crate) fn is_null(cell: &Value, null: &[String]) -> bool {
    match cell {
        Value::String(text) => null.iter().any(|n| n.trim() == text.trim()),
        other => other.is_null(),
    }
}

/// What the table makes of a value. White space and the case of letters do not count.
fn looked_up(cell: Value, rules: CellRules<'_>) -> Result<Value, String> {
    let Some(table) = rules.table else {
        return Ok(cell);
    };
    let text = match &cell {
        Value::String(text) => text.clone(),
        Value::Number(number) => plain(number),
        _ => return Ok(cell),
    };
    let folded = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").to_lowercase()
    };
    let wanted = folded(&text);
    let found = table.get(&text).or_else(|| {
        table
            .iter()
            .find(|(from, _)| folded(from) == wanted)
            .map(|(_, to)| to)
    });
    match found {
        Some(to) => Ok(Value::from(to.as_str())),
        None if rules.strict && !table.values().any(|to| *to == text) => {
            Err(format!("`{text}` is not in the table"))
        }
        None => Ok(cell),
    }
}

/// A text as a number. Without a rule only digits and a point: `1.234` could be two numbers, and what
/// `f64` also parses (`inf`, `1e9`) is more likely a text in a wrong column.
fn number(text: &str, decimal: Option<Decimal>) -> Option<Number> {
    let text = match decimal {
        None => text.to_owned(),
        Some(decimal) => without_thousands(text, decimal)?,
    };
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.len() < 16;
    Number::from_f64(text.parse().ok().filter(|_| is_plain)?)
}

/// `1.234.567,5` -> `1234567.5`. Thousands must be groups of three, all with one sign.
fn without_thousands(text: &str, decimal: Decimal) -> Option<String> {
    let (point, other) = match decimal {
        Decimal::Point => ('.', ','),
        Decimal::Comma => (',', '.'),
    };
    let (whole, fraction) = match text.split_once(point) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let (sign, whole) = match whole.strip_prefix(['-', '+']) {
        Some(rest) => (&whole[..1], rest),
        None => ("", whole),
    };
    let is_separator = |c: char| c == other || c == '\'' || c == '\u{2019}' || c.is_whitespace();
    let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let groups: Vec<&str> = whole.split(is_separator).collect();
    let separators: Vec<char> = whole.chars().filter(|c| is_separator(*c)).collect();
    let (first, rest) = groups.split_first()?;
    let is_grouped = separators.windows(2).all(|pair| pair[0] == pair[1])
        && is_digits(first)
        && (rest.is_empty() || first.len() <= 3)
        && rest.iter().all(|g| g.len() == 3 && is_digits(g));
    if !is_grouped || fraction.is_some_and(|f| !is_digits(f)) {
        return None;
    }
    let fraction = fraction.map(|f| format!(".{f}")).unwrap_or_default();
    Some(format!("{sign}{}{fraction}", groups.concat()))
}

/// Spreadsheets write 14 as 14.0: a whole number is one whatever its spelling.
fn integer(number: &Number) -> Option<Value> {
    if number.is_i64() || number.is_u64() {
        return Some(Value::Number(number.clone()));
    }
    let value = number.as_f64()?;
    // Above 2^53 a float no longer says which whole number was meant.
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0)
        .then(|| Value::from(value as i64))
}

/// A number as a text: 20.0 of a spreadsheet is "20".
fn plain(number: &Number) -> String {
    match integer(number) {
        Some(whole) => whole.to_string(),
        None => number.to_string(),
    }
}

/// A date as the labels write it, as the target writes it. A date that two ways read differently is
/// not guessed: the first way that fits is what the mapping says.
fn date(text: &str, rules: CellRules<'_>) -> Result<Value, String> {
    let read = rules
        .dates
        .iter()
        .find_map(|format| Date::strptime(format, text).ok());
    let Some(date) = read else {
        let formats: Vec<String> = rules.dates.iter().map(|f| format!("`{f}`")).collect();
        return Err(format!(
            "expected a date as {}, found `\"{text}\"`",
            formats.join(" or ")
        ));
    };
    written(date, rules.write_date).map(Value::from)
}

fn written(date: Date, format: &str) -> Result<String, String> {
    jiff::fmt::strtime::format(format, date)
        .map_err(|e| format!("the date format `{format}` cannot be written: {e}"))
}

/// Formats of the mapping that cannot be used. A day is written and read back: a format that loses
/// the month or the year shows here and not in the data.
pub(crate) fn dates_problem(rules: CellRules<'_>) -> Option<String> {
    if rules.dates.is_empty() {
        return None;
    }
    let day = Date::constant(2021, 3, 14);
    if let Err(why) = written(day, rules.write_date) {
        return Some(why);
    }
    rules.dates.iter().find_map(|format| {
        let text = match written(day, format) {
            Ok(text) => text,
            Err(why) => return Some(why),
        };
        match Date::strptime(format, &text) {
            Ok(read) if read == day => None,
            Ok(read) => Some(format!("the date format `{format}` reads {day} as {read}")),
            Err(e) => Some(format!("the date format `{format}` says no date: {e}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(kind: FieldKind, null: &[String]) -> CellRules<'_> {
        CellRules {
            kind,
            null,
            decimal: None,
            dates: &[],
            write_date: "%Y-%m-%d",
            table: None,
            strict: false,
            default: None,
        }
    }

    #[test]
    fn cells_take_the_type_of_their_field() {
        use FieldKind::{Boolean, Date, Integer, Number, String};
        let null: Vec<std::string::String> = ["", "N/A", "-"].map(Into::into).to_vec();
        for (cell, wanted, expected) in [
            (json!(" 14 "), Integer, Ok(json!(14))),
            (json!(14.0), Integer, Ok(json!(14))),
            (json!("14.0"), Integer, Ok(json!(14))),
            (json!(-3), Integer, Ok(json!(-3))),
            (
                json!(14.5),
                Integer,
                Err("expected a whole number, found `14.5`"),
            ),
            (
                json!("14 days"),
                Integer,
                Err("expected a whole number, found `\"14 days\"`"),
            ),
            (
                json!("1e3"),
                Integer,
                Err("expected a whole number, found `\"1e3\"`"),
            ),
            (
                json!("inf"),
                Number,
                Err("expected a number, found `\"inf\"`"),
            ),
            (json!("2.50"), Number, Ok(json!(2.5))),
            (json!("2"), Number, Ok(json!(2))),
            (json!(2.0), Number, Ok(json!(2))),
            (json!(" N/A"), Integer, Ok(Value::Null)),
            (json!(""), String, Ok(Value::Null)),
            (json!(null), Date, Ok(Value::Null)),
            (json!(" MV GRACE "), String, Ok(json!("MV GRACE"))),
            (json!(20.0), String, Ok(json!("20"))),
            (json!(2.5), String, Ok(json!("2.5"))),
            (json!(true), String, Err("expected a text, found `true`")),
            (json!("Yes"), Boolean, Ok(json!(true))),
            (json!(0), Boolean, Ok(json!(false))),
            (
                json!("maybe"),
                Boolean,
                Err("expected yes or no, found `\"maybe\"`"),
            ),
            (json!("2026-01-02"), Date, Ok(json!("2026-01-02"))),
            (
                json!(45000),
                Date,
                Err("expected a date as text, found `45000`"),
            ),
            (
                json!([1]),
                Integer,
                Err("expected a whole number, found `[1]`"),
            ),
        ] {
            assert_eq!(
                convert(&cell, rules(wanted, &null)),
                expected.map_err(Into::into),
                "{cell}"
            );
        }
    }

    #[test]
    fn numbers_are_read_by_rule_or_refused() {
        use Decimal::{Comma, Point};
        for (text, decimal, expected) in [
            ("1.234,50", Some(Comma), Some("1234.5")),
            ("1.234", Some(Comma), Some("1234")),
            ("1.234", None, Some("1.234")),
            ("1.234", Some(Point), Some("1.234")),
            ("1,234.5", Some(Point), Some("1234.5")),
            ("12 345,6", Some(Comma), Some("12345.6")),
            ("12'345", Some(Point), Some("12345")),
            ("-1.000.000,25", Some(Comma), Some("-1000000.25")),
            ("0,5", Some(Comma), Some("0.5")),
            ("0,5", None, None),
            ("1,23,4", Some(Point), None),
            ("1.23,4", Some(Comma), None),
            ("1.234'567", Some(Comma), None),
            ("1234.567", Some(Comma), None),
            ("1,", Some(Comma), None),
            (",5", Some(Comma), None),
            ("12 kg", Some(Comma), None),
        ] {
            let found =
                number(text, decimal).map(|n| integer(&n).unwrap_or(Value::Number(n)).to_string());
            assert_eq!(found.as_deref(), expected, "{text} {decimal:?}");
        }
        let error = convert(&json!("0,5"), rules(FieldKind::Number, &[])).unwrap_err();
        assert!(error.contains("decimal = \"comma\""), "{error}");
    }

    #[test]
    fn dates_are_read_as_the_mapping_says() {
        let dates: Vec<String> = ["%d.%m.%Y", "%d-%b-%y"].map(Into::into).to_vec();
        let with = CellRules {
            dates: &dates,
            ..rules(FieldKind::Date, &[])
        };
        for (text, expected) in [
            ("3.4.2021", Ok("2021-04-03")),
            ("03.04.2021", Ok("2021-04-03")),
            ("14-Mar-21", Ok("2021-03-14")),
            ("30.02.2021", Err(())),
            ("2021-04-03", Err(())),
        ] {
            let found = convert(&json!(text), with).map_err(|_| ());
            assert_eq!(found, expected.map(Value::from), "{text}");
        }
        let slashes = CellRules {
            write_date: "%d/%m/%Y",
            ..with
        };
        assert_eq!(
            convert(&json!("3.4.2021"), slashes),
            Ok(json!("03/04/2021"))
        );
        for (format, expected) in [("%d.%m", "says no date"), ("%Q", "cannot be written")] {
            let dates = [format.to_owned()];
            let why = dates_problem(CellRules {
                dates: &dates,
                ..with
            })
            .unwrap();
            assert!(why.contains(expected), "{why}");
        }
        assert_eq!(dates_problem(with), None);
    }

    #[test]
    fn tables_and_defaults() {
        let null = vec![String::new()];
        let table = [("R dam", "Rotterdam"), ("20", "20GP")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into();
        let default = json!("?");
        let with = CellRules {
            table: Some(&table),
            default: Some(&default),
            ..rules(FieldKind::String, &null)
        };
        let strict = CellRules {
            strict: true,
            ..with
        };
        for (cell, rules, expected) in [
            (json!(" r  DAM "), with, Ok("Rotterdam")),
            (json!(20.0), with, Ok("20GP")),
            (json!("Genoa"), with, Ok("Genoa")),
            (json!("Genoa"), strict, Err("`Genoa` is not in the table")),
            (json!("Rotterdam"), strict, Ok("Rotterdam")),
            (json!(""), strict, Ok("?")),
            (json!(null), with, Ok("?")),
        ] {
            let expected = expected.map(Value::from).map_err(str::to_owned);
            assert_eq!(convert(&cell, rules), expected, "{cell}");
        }
    }
}
