//! Where libpdfium may be, in the order in which people mean it: what they name, what lies beside
//! the program, what we put into the cache, what Python or the system has.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pdfium_render::prelude::Pdfium;
use serde::{Deserialize, Serialize};
use vlft_base::paths::PYTHONS;
use vlft_base::{Diagnostic, Result};

use super::{Library, fetch, probe};

/// How a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `--pdfium PATH`.
    Option,
    /// The environment variable `VLFT_PDFIUM`.
    Environment,
    BesideProgram,
    Cache,
    /// An installed Python package `pypdfium2`.
    Pypdfium2,
    System,
}

impl Source {
    pub fn describe(self) -> &'static str {
        match self {
            Source::Option => "`--pdfium`",
            Source::Environment => "`VLFT_PDFIUM`",
            Source::BesideProgram => "beside the program",
            Source::Cache => "the cache",
            Source::Pypdfium2 => "an installed pypdfium2",
            Source::System => "the system",
        }
    }
}

/// Finds a libpdfium that works. `named` is `--pdfium`: a file or the directory that holds it; when
/// given, nothing else is tried, because a path that somebody typed must not be replaced in silence.
///
/// # Errors
/// When nothing works: every place that was tried, each with its reason.
pub fn find(named: Option<&Path>) -> Result<Library> {
    Places::of_this_process(named).find()
}

/// All that the search depends on, so that tests can choose it.
struct Places<'a> {
    named: Option<&'a Path>,
    environment: Option<PathBuf>,
    program_dir: Option<PathBuf>,
    cache: Option<PathBuf>,
    pythons: &'a [&'a str],
    system: bool,
}

impl<'a> Places<'a> {
    fn of_this_process(named: Option<&'a Path>) -> Self {
        Self {
            named,
            environment: env::var_os("VLFT_PDFIUM")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from),
            program_dir: env::current_exe()
                .ok()
                .and_then(|exe| Some(exe.parent()?.to_path_buf())),
            cache: fetch::cached_library().ok(),
            pythons: PYTHONS,
            system: true,
        }
    }

    fn find(&self) -> Result<Library> {
        let mut tried = Vec::new();
        if let Some(named) = self.named {
            return attempt(Source::Option, Ok(file_in(named)), &mut tried).ok_or_else(|| {
                not_found(tried).hint("only the library named by `--pdfium` is tried")
            });
        }
        for source in [
            Source::Environment,
            Source::BesideProgram,
            Source::Cache,
            Source::Pypdfium2,
            Source::System,
        ] {
            if let Some(mut library) = attempt(source, self.place(source), &mut tried) {
                let set = self.environment.is_some() && source != Source::Environment;
                library.passed_over = tried
                    .first()
                    .filter(|_| set)
                    .map(|(path, reason)| format!("`{}`, {reason}", path.display()));
                return Ok(library);
            }
        }
        Err(not_found(tried).hint(
            "`vlft doctor --fix` downloads one into the cache; or set `VLFT_PDFIUM` to yours",
        ))
    }

    /// Where this source has its library, or why it has none.
    fn place(&self, source: Source) -> Result<PathBuf, &'static str> {
        match source {
            Source::Option => self.named.map(file_in).ok_or("not given"),
            Source::Environment => self.environment.as_deref().map(file_in).ok_or("not set"),
            Source::BesideProgram => {
                let dir = self.program_dir.as_deref();
                dir.map(file_in).ok_or("the program's own path is unknown")
            }
            Source::Cache => self
                .cache
                .clone()
                .ok_or("no cache directory: set `VLFT_CACHE`"),
            Source::Pypdfium2 => pypdfium2(self.pythons).ok_or("not installed in Python"),
            Source::System if self.system => Ok(file_name()),
            Source::System => Err("not asked"),
        }
    }
}

/// Tries one place; a failure is noted with its reason.
fn attempt(
    source: Source,
    place: Result<PathBuf, &'static str>,
    tried: &mut Vec<(PathBuf, String)>,
) -> Option<Library> {
    let path = match place {
        Ok(path) => path,
        Err(reason) => {
            tried.push((PathBuf::from(source.describe()), reason.to_owned()));
            return None;
        }
    };
    // A bare name is for the system's loader; every other path must exist, which makes a better
    // reason than the loader's.
    let outcome = match source != Source::System && !path.exists() {
        true => Err("no such file".to_owned()),
        false => probe(&path),
    };
    match outcome {
        Ok(()) => Some(Library {
            build: build_of(&path, source),
            path,
            source,
            passed_over: None,
        }),
        Err(reason) => {
            tried.push((path, format!("{}: {reason}", source.describe())));
            None
        }
    }
}

fn not_found(tried: Vec<(PathBuf, String)>) -> Diagnostic {
    let start = Diagnostic::error("no libpdfium that works was found").with_rule("pdfium-missing");
    tried
        .into_iter()
        .fold(start, |all, (path, reason)| all.at(path).detail(reason))
}

/// `libpdfium.so`, `libpdfium.dylib` or `pdfium.dll`.
pub(super) fn file_name() -> PathBuf {
    PathBuf::from(Pdfium::pdfium_platform_library_name())
}

fn file_in(file_or_dir: &Path) -> PathBuf {
    match file_or_dir.is_dir() {
        true => file_or_dir.join(file_name()),
        false => file_or_dir.to_path_buf(),
    }
}

/// The library inside the Python package `pypdfium2`, if a Python has it. The package is looked up,
/// not imported, so none of its code runs.
fn pypdfium2(pythons: &[&str]) -> Option<PathBuf> {
    const LOOK_UP: &str = "import importlib.util as u; s = u.find_spec('pypdfium2_raw'); \
                           print(s.submodule_search_locations[0] if s else '')";
    for python in pythons {
        let Ok(output) = Command::new(python).args(["-c", LOOK_UP]).output() else {
            continue;
        };
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !folder.is_empty() {
            return Some(Path::new(&folder).join(file_name()));
        }
    }
    None
}

/// pdfium has no function that tells its version, but its packages carry a file that does:
/// `version.json` in pypdfium2, `VERSION` in the archives of pdfium-binaries.
fn build_of(library: &Path, source: Source) -> Option<u32> {
    if source == Source::Cache {
        return Some(fetch::BUILD);
    }
    #[derive(Deserialize)]
    struct Version {
        build: u32,
    }
    let folder = library.parent()?;
    if let Ok(json) = fs::read(folder.join("version.json"))
        && let Ok(version) = serde_json::from_slice::<Version>(&json)
    {
        return Some(version.build);
    }
    [
        Some(folder),
        folder
            .parent()
            .filter(|_| folder.file_name() == Some(OsStr::new("lib"))),
    ]
    .into_iter()
    .flatten()
    .filter_map(|dir| fs::read_to_string(dir.join("VERSION")).ok())
    .find_map(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("BUILD=")?.trim().parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Places<'static> {
        Places {
            named: None,
            environment: None,
            program_dir: None,
            cache: None,
            pythons: &[],
            system: false,
        }
    }

    #[test]
    fn every_place_is_listed_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let garbage = dir.path().join(file_name());
        fs::write(&garbage, "not a library").unwrap();
        let error = Places {
            environment: Some("/nonexistent/libpdfium.so".into()),
            program_dir: Some(dir.path().into()),
            cache: Some(dir.path().join("cache/libpdfium.so")),
            pythons: &["vlft-no-such-python"],
            ..nowhere()
        }
        .find()
        .unwrap_err();
        let places: Vec<String> = error.places().iter().map(ToString::to_string).collect();
        assert_eq!(places.len(), 5, "{places:?}");
        assert_eq!(
            places[0],
            "/nonexistent/libpdfium.so, `VLFT_PDFIUM`: no such file"
        );
        assert!(places[1].contains("beside the program: "), "{}", places[1]);
        assert!(!places[1].contains("no such file"), "{}", places[1]);
        assert!(
            places[2].ends_with("the cache: no such file"),
            "{}",
            places[2]
        );
        assert_eq!(places[3], "an installed pypdfium2, not installed in Python");
        assert_eq!(places[4], "the system, not asked");
        assert!(error.hint_text().unwrap().contains("vlft doctor --fix"));
    }

    #[test]
    fn a_named_library_is_never_replaced_by_another() {
        let error = Places {
            named: Some(Path::new("/nonexistent/libpdfium.so")),
            ..Places::of_this_process(None)
        }
        .find()
        .unwrap_err();
        assert_eq!(error.places().len(), 1);
    }

    #[test]
    fn the_cached_library_loads_and_its_build_is_known() {
        let library = find(None).unwrap_or_else(|e| panic!("{e}: {:?}", e.hint_text()));
        let folder = library.path.parent().unwrap().to_path_buf();
        let again = Places {
            environment: Some(folder),
            ..nowhere()
        }
        .find()
        .unwrap();
        assert!(again.warning().is_none());
        assert_eq!(
            (again.source, &again.path),
            (Source::Environment, &library.path)
        );
    }

    #[test]
    fn a_library_that_somebody_set_is_not_replaced_in_silence() {
        let library = find(None).unwrap_or_else(|e| panic!("{e}: {:?}", e.hint_text()));
        let other = Places {
            environment: Some("/nonexistent/libpdfium.so".into()),
            cache: Some(library.path),
            ..nowhere()
        }
        .find()
        .unwrap();
        let warning = other.warning().unwrap();
        assert_eq!(
            warning.causes()[0],
            "`/nonexistent/libpdfium.so`, `VLFT_PDFIUM`: no such file"
        );
    }

    #[test]
    fn the_build_is_read_from_the_files_that_packages_carry() {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("lib").join(file_name());
        fs::create_dir(dir.path().join("lib")).unwrap();
        assert_eq!(build_of(&library, Source::Option), None);
        fs::write(
            dir.path().join("VERSION"),
            "MAJOR=140\nBUILD=7350\nPATCH=0\n",
        )
        .unwrap();
        assert_eq!(build_of(&library, Source::Option), Some(7350));
        fs::write(
            dir.path().join("lib/version.json"),
            r#"{"major":159,"build":8149}"#,
        )
        .unwrap();
        assert_eq!(build_of(&library, Source::Option), Some(8149));
    }
}
