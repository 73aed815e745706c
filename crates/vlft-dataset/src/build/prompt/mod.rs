//! What the model is asked: the texts of the mapping or of its files, with the target's schema quoted
//! where they say so, and what in them contradicts the target.

mod mentions;
mod schema;

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};

use super::mapping::Mapping;
use crate::image_path::base_of;

/// The texts as they stand in every record.
#[derive(Debug)]
pub(crate) struct Prompts {
    pub(crate) system: Option<String>,
    pub(crate) user: String,
    /// The files that were read, with what they are.
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    pub(crate) findings: Vec<Finding>,
}

/// Something in the prompt or in the schema that the target is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable id: `prompt-absent-key`, `prompt-missing-key`, `prompt-type`, `schema-key`,
    /// `schema-type`.
    pub rule: &'static str,
    pub detail: String,
}

/// What may stand in double braces.
const PLACEHOLDERS: [&str; 2] = ["schema", "keys"];

/// Reads and fills in the texts. `path` is the mapping's.
///
/// # Errors
/// Files that cannot be read or say nothing, and placeholders that do not exist.
pub(crate) fn prompts(mapping: &Mapping, path: &Path) -> Result<Prompts> {
    let base = base_of(path);
    let prompt = &mapping.prompt;
    let mut files = Vec::new();
    let mut findings = Vec::new();
    let mut read = |role: &'static str, file: &str| {
        let file = match base == Path::new(".") {
            true => PathBuf::from(file),
            false => base.join(file),
        };
        let text = input::read_to_string(&file).map_err(|e| cannot("read", &file, e))?;
        files.push((role, file.clone()));
        Ok::<_, Diagnostic>((file, text))
    };
    let schema = match &prompt.target_schema {
        Some(file) => {
            let (file, text) = read("target-schema", file)?;
            let schema = schema::parse(&text, &file)?;
            findings.extend(schema::contradictions(&schema, mapping));
            schema
        }
        None => schema::of(mapping),
    };
    let mut text = |inline: &Option<String>, file: &Option<String>, role: &'static str| {
        let Some(file) = file else {
            return Ok(inline.clone().map(|text| (path.to_path_buf(), text)));
        };
        let (file, text) = read(role, file)?;
        // Editors end a file with a line break that nobody means to ask with.
        let text = text.trim_start_matches('\u{feff}').trim_end().to_owned();
        if text.is_empty() {
            return Err(Diagnostic::error("the prompt's file is empty").at(&file));
        }
        Ok(Some((file, text)))
    };
    let system = text(&prompt.system, &prompt.system_file, "system-prompt")?;
    let user = text(&prompt.user, &prompt.user_file, "user-prompt")?;
    let (user_at, user) = user.expect("the mapping was checked: it has `user` or `user_file`");

    let asked: Vec<&str> = system
        .iter()
        .map(|(_, text)| text.as_str())
        .chain([user.as_str()])
        .collect();
    findings.extend(mentions::contradictions(&asked.join("\n"), mapping));
    let keys: Vec<&str> = mapping.fields.iter().map(|f| f.name.as_str()).collect();
    let filled = |at: &Path, text: &str| fill(text, &schema.to_string(), &keys.join(", "), at);
    Ok(Prompts {
        system: match &system {
            Some((at, text)) => Some(filled(at, text)?),
            None => None,
        },
        user: filled(&user_at, &user)?,
        files,
        findings,
    })
}

/// Replaces `{{schema}}` and `{{keys}}`.
fn fill(text: &str, schema: &str, keys: &str, at: &Path) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let name = after.split_once("}}").map(|(name, _)| name.trim());
        let is_word =
            |n: &&str| !n.is_empty() && n.chars().all(|c| c.is_alphanumeric() || c == '_');
        filled += before;
        match name.filter(is_word) {
            Some("schema") => filled += schema,
            Some("keys") => filled += keys,
            Some(other) => {
                let unknown =
                    Diagnostic::error(format!("the prompt has an unknown `{{{{{other}}}}}`"))
                        .at(at)
                        .expected(one_of(PLACEHOLDERS));
                return Err(match did_you_mean(other, PLACEHOLDERS) {
                    Some(near) => unknown.hint(format!("did you mean `{{{{{near}}}}}`?")),
                    None => unknown,
                });
            }
            // Braces of JSON that somebody wrote out.
            None => {
                filled += "{{";
                rest = after;
                continue;
            }
        }
        rest = after.split_once("}}").map_or("", |(_, rest)| rest);
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn schema_and_keys_are_quoted_and_other_braces_stay() {
        let fill = |text| fill(text, "{S}", "a, b", Path::new("m.toml"));
        assert_eq!(
            fill("x {{schema}} {{ keys }} {\"a\":{\"b\":{}}} {{\"c\"}} {{").unwrap(),
            "x {S} a, b {\"a\":{\"b\":{}}} {{\"c\"}} {{"
        );
        let error = fill("{{shema}}").unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean `{{schema}}`?"));
    }

    #[test]
    fn texts_come_from_files_beside_the_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("user.txt"), "\u{feff}Read. {{keys}}\n\n").unwrap();
        fs::write(at("empty.txt"), " \n").unwrap();
        let mapping = |prompt: &str| {
            let text = format!(
                "version = 1\ndocument = \"F\"\nprompt = {{ {prompt} }}\n[[fields]]\nname = \"days\"\ntype = \"integer\"\n"
            );
            let mapping = Mapping::parse(&text, &at("m.toml"))?;
            prompts(&mapping, &at("m.toml"))
        };
        let prompts = mapping("user_file = \"user.txt\", system = \"JSON: {{schema}}\"").unwrap();
        assert_eq!(prompts.user, "Read. days");
        assert_eq!(
            prompts.system.as_deref(),
            Some(
                r#"JSON: {"type":"object","properties":{"days":{"type":["integer","null"]}},"required":["days"],"additionalProperties":false}"#
            )
        );
        assert_eq!(prompts.files, [("user-prompt", at("user.txt"))]);
        for (prompt, message) in [
            ("user_file = \"none.txt\"", "cannot read file or directory"),
            ("user_file = \"empty.txt\"", "the prompt's file is empty"),
            (
                "user = \"x\", user_file = \"user.txt\"",
                "the prompt has both `user` and `user_file`",
            ),
            (
                "system = \"x\"",
                "the prompt has neither `user` nor `user_file`",
            ),
            (
                "user = \"x\", target_schema = \"user.txt\"",
                "the target schema is not valid JSON",
            ),
        ] {
            let error = mapping(prompt).map(|p| p.user).unwrap_err();
            assert_eq!(error.message(), message, "{prompt}");
        }
    }
}
