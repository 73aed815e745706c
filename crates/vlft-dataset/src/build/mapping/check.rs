//! What the types of a mapping cannot say.

use std::collections::BTreeSet;

use vlft_base::{Diagnostic, did_you_mean, one_of};

use super::{CellRules, Field, FieldKind, Mapping, Pages, Take, VERSION};
use crate::build::cell::{convert, dates_problem};

impl Mapping {
    pub(super) fn problems(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        if self.version != VERSION {
            problems.push(
                Diagnostic::error("the mapping has a version that this vlft does not read")
                    .expected(format!("`version = {VERSION}`"))
                    .found(format!("`version = {}`", self.version)),
            );
        }
        if self.fields.is_empty() {
            problems.push(Diagnostic::error("the mapping has no `[[fields]]`"));
        }
        let prompt = &self.prompt;
        for (name, text, file) in [
            ("user", &prompt.user, &prompt.user_file),
            ("system", &prompt.system, &prompt.system_file),
        ] {
            match (text, file) {
                (None, None) if name == "user" => {
                    problems.push(Diagnostic::error(
                        "the prompt has neither `user` nor `user_file`",
                    ));
                }
                (Some(_), Some(_)) => problems.push(
                    Diagnostic::error(format!("the prompt has both `{name}` and `{name}_file`"))
                        .hint("keep one of the two"),
                ),
                (Some(text), None) if name == "user" && text.trim().is_empty() => {
                    problems.push(Diagnostic::error("`prompt.user` is empty"));
                }
                _ => {}
            }
        }
        if let Some(pages) = &self.pages {
            page_problems(pages, &mut problems);
        }
        twice(
            self.fields.iter().map(|f| f.name.as_str()),
            "fields",
            &mut problems,
        );
        for field in &self.fields {
            list_problems(field, &mut problems);
            let name = format!("field `{}`", field.name);
            self.cell_problems(&name, field.rules(self), &field.table, &mut problems);
            for item in &field.items {
                let name = format!("item `{}` of `{}`", item.name, field.name);
                self.cell_problems(&name, item.rules(self), &item.table, &mut problems);
            }
        }
        problems
    }

    fn cell_problems(
        &self,
        name: &str,
        rules: CellRules<'_>,
        table: &Option<String>,
        problems: &mut Vec<Diagnostic>,
    ) {
        if let Some(table) = table
            && rules.table.is_none()
        {
            let known = || self.tables.keys().map(String::as_str);
            let problem = Diagnostic::error(format!("{name} names no table: `{table}`"));
            problems.push(match did_you_mean(table, known()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.hint(format!("add `[tables.{table}]`")),
            });
        }
        if rules.strict && table.is_none() {
            problems.push(Diagnostic::error(format!(
                "{name} has `strict` but no `table`"
            )));
        }
        if rules.kind != FieldKind::Date && !rules.dates.is_empty() {
            problems.push(
                Diagnostic::error(format!("{name} has `dates` but is no date"))
                    .hint("set `type = \"date\"`"),
            );
        }
        if let Some(why) = dates_problem(rules) {
            problems.push(Diagnostic::error(format!("{name}: {why}")));
        }
        if let Some(default) = rules.default {
            let without = CellRules {
                default: None,
                table: None,
                strict: false,
                ..rules
            };
            match convert(default, without) {
                _ if rules.kind == FieldKind::List => problems.push(Diagnostic::error(format!(
                    "{name} is a list and can have no `default`"
                ))),
                Ok(value) if value.is_null() => problems.push(Diagnostic::error(format!(
                    "the `default` of {name} means \"no value\""
                ))),
                Ok(_) => {}
                Err(why) => {
                    problems.push(Diagnostic::error(format!("the `default` of {name}: {why}")));
                }
            }
        }
    }
}

fn page_problems(pages: &Pages, problems: &mut Vec<Diagnostic>) {
    let mut push = |message: &str| problems.push(Diagnostic::error(message));
    match (pages.take, pages.list.is_empty(), &pages.column) {
        (Take::List, true, _) => push("`pages.take` is `list`, and `pages.list` is empty"),
        (Take::List, ..) if pages.list.contains(&0) => push("`pages.list` has a page 0"),
        (Take::Column, _, None) => push("`pages.take` is `column`, and `pages.column` is absent"),
        _ => {}
    }
    if pages.take != Take::List && !pages.list.is_empty() {
        push("`pages.list` counts only with `take = \"list\"`");
    }
    if pages.take != Take::Column && pages.column.is_some() {
        push("`pages.column` counts only with `take = \"column\"`");
    }
}

fn list_problems(field: &Field, problems: &mut Vec<Diagnostic>) {
    let name = &field.name;
    if field.kind != FieldKind::List {
        if !field.items.is_empty() || field.unique.is_some() {
            problems.push(
                Diagnostic::error(format!(
                    "field `{name}` has `items` or `unique` but is no list"
                ))
                .hint("set `type = \"list\"`"),
            );
        }
        return;
    }
    if field.items.is_empty() {
        problems.push(
            Diagnostic::error(format!("the list `{name}` has no `items`"))
                .hint("`items = [{ name = \"..\", column = \"..\", type = \"string\" }]`"),
        );
    }
    if field.null.is_some() {
        problems.push(
            Diagnostic::error(format!("the list `{name}` has `null` texts"))
                .hint("put `null` on its items"),
        );
    }
    if let Some(nested) = field.items.iter().find(|i| i.kind == FieldKind::List) {
        problems.push(Diagnostic::error(format!(
            "item `{}` of `{name}` is a list in a list, which the mapping cannot express",
            nested.name
        )));
    }
    twice(
        field.items.iter().map(|i| i.name.as_str()),
        &format!("items of `{name}`"),
        problems,
    );
    if let Some(unique) = &field.unique
        && !field.items.iter().any(|i| i.name == *unique)
    {
        let names = || field.items.iter().map(|i| i.name.as_str());
        let problem = Diagnostic::error(format!("`unique` of `{name}` names no item: `{unique}`"))
            .expected(one_of(names()));
        problems.push(match did_you_mean(unique, names()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
}

fn twice<'a>(names: impl Iterator<Item = &'a str>, what: &str, problems: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() {
            problems.push(Diagnostic::error(format!("an empty name in {what}")));
        } else if !seen.insert(name) {
            problems.push(Diagnostic::error(format!(
                "the name `{name}` twice in {what}"
            )));
        }
    }
}
