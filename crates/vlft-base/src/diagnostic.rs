//! One shape for everything we tell a person went wrong: what, where, what was expected, why, and
//! one thing to do. The binary renders it; libraries only fill it in.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// `Err` carries one [`Diagnostic`], boxed inside, so a `Result` stays small.
pub type Result<T, E = Diagnostic> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

/// What the failure means for the run. The binary maps it to an exit code and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Could not run: arguments, config, files, disk full, bad data before the first step.
    CannotRun,
    /// Ran, and the verdict is no.
    Verdict,
    /// Nothing to do: no input matched, the run is already finished.
    NothingToDo,
    /// No such device, or out of its memory.
    Device,
    /// A signal asked us to stop; the state was saved.
    Interrupted,
}

/// A file, and as exactly as we know it the spot inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// "page 3", "entry 17 `x`", "tensor `a.b`", "`lora.rank`".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An error or a warning. Build it with [`Diagnostic::error`] and the methods below.
#[derive(Clone, Debug)]
pub struct Diagnostic(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    severity: Severity,
    kind: Kind,
    rule: Option<&'static str>,
    message: String,
    places: Vec<Place>,
    expected: Option<String>,
    found: Option<String>,
    causes: Vec<String>,
    hint: Option<String>,
    further: Vec<Diagnostic>,
}

impl Diagnostic {
    /// `message`: lower case, no full stop, reads well after "failed to".
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message.into())
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Self {
        Self(Box::new(Inner {
            severity,
            kind: Kind::CannotRun,
            rule: None,
            message,
            places: Vec::new(),
            expected: None,
            found: None,
            causes: Vec::new(),
            hint: None,
            further: Vec::new(),
        }))
    }

    /// Several problems found in one go, as one value: the first one carries the others, and the
    /// renderer shows them all. `None` when there is no problem.
    pub fn all(problems: impl IntoIterator<Item = Diagnostic>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let mut first = problems.next()?;
        first.0.further.extend(problems);
        Some(first)
    }

    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// A stable id such as `image-missing`; texts may change, rules do not.
    pub fn with_rule(mut self, rule: &'static str) -> Self {
        self.0.rule = Some(rule);
        self
    }

    /// Adds a place. May be called several times.
    pub fn at(mut self, file: impl AsRef<Path>) -> Self {
        self.0.places.push(Place {
            file: file.as_ref().to_path_buf(),
            line: None,
            column: None,
            detail: None,
        });
        self
    }

    /// Adds a place with a 1-based line.
    pub fn at_line(mut self, file: impl AsRef<Path>, line: u64) -> Self {
        self.0.places.push(Place {
            file: file.as_ref().to_path_buf(),
            line: Some(line),
            column: None,
            detail: None,
        });
        self
    }

    /// Sets the 1-based column of the last place.
    pub fn column(mut self, column: u64) -> Self {
        if let Some(place) = self.0.places.last_mut() {
            place.column = Some(column);
        }
        self
    }

    /// Says where inside the last place: "page 3", "tensor `x`", "`lora.rank`".
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        if let Some(place) = self.0.places.last_mut() {
            place.detail = Some(detail.into());
        }
        self
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.0.expected = Some(expected.into());
        self
    }

    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.0.found = Some(found.into());
        self
    }

    /// Appends the next cause, outermost first. A `Diagnostic` also brings its own causes along.
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.0.causes.push(cause.to_string());
        self
    }

    /// One thing to type or to change.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub fn severity(&self) -> Severity {
        self.0.severity
    }
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    pub fn rule(&self) -> Option<&'static str> {
        self.0.rule
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    pub fn places(&self) -> &[Place] {
        &self.0.places
    }
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The problems that were found together with this one.
    pub fn further(&self) -> &[Diagnostic] {
        &self.0.further
    }

    /// "expected .., found ..", or the half of it that is known.
    pub fn expectation(&self) -> Option<String> {
        match (&self.0.expected, &self.0.found) {
            (Some(e), Some(f)) => Some(format!("expected {e}, found {f}")),
            (Some(e), None) => Some(format!("expected {e}")),
            (None, Some(f)) => Some(format!("found {f}")),
            (None, None) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths read the same on every system.
        write!(f, "{}", self.file.display().to_string().replace('\\', "/"))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ", {detail}")?;
        }
        Ok(())
    }
}

/// One line: for logs, lists of rejects, and as a cause inside another diagnostic.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        if let Some(expectation) = self.expectation() {
            write!(f, " ({expectation})")?;
        }
        if let Some(place) = self.0.places.first() {
            write!(f, " in {place}")?;
        }
        for cause in &self.0.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

impl Serialize for Diagnostic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Json<'a> {
            severity: Severity,
            #[serde(skip_serializing_if = "Option::is_none")]
            rule: Option<&'static str>,
            message: &'a str,
            #[serde(skip_serializing_if = "<[Place]>::is_empty")]
            places: &'a [Place],
            #[serde(skip_serializing_if = "Option::is_none")]
            expected: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            found: Option<&'a str>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            causes: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
            #[serde(skip_serializing_if = "<[Diagnostic]>::is_empty")]
            further: &'a [Diagnostic],
        }
        Json {
            severity: self.0.severity,
            rule: self.0.rule,
            message: &self.0.message,
            places: &self.0.places,
            expected: self.0.expected.as_deref(),
            found: self.0.found.as_deref(),
            causes: &self.0.causes,
            hint: self.0.hint.as_deref(),
            further: &self.0.further,
        }
        .serialize(serializer)
    }
}
