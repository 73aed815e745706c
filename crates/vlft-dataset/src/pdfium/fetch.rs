//! Gets libpdfium out of the pinned `pypdfium2` wheel, which pip downloads from wherever this
//! machine's pip is set up to look, and puts it into the cache. Nothing of the package is installed
//! or run; the wheel's SHA-256 decides whether it is the one we know.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use vlft_base::digest::sha256;
use vlft_base::output::cannot;
use vlft_base::paths::{PYTHONS, cache_dir};
use vlft_base::{Diagnostic, Result};

use super::locate::file_name;
use super::{Library, Source, probe};

/// The package we pin, and the pdfium build inside it.
const PACKAGE: &str = "pypdfium2==5.15.2";
pub(super) const BUILD: u32 = 8149;

/// A wheel for one kind of machine.
#[derive(Clone, Copy)]
struct Wheel {
    os: &'static str,
    arch: &'static str,
    /// `gnu` or `musl` on Linux, empty elsewhere.
    libc: &'static str,
    /// pip's name for it.
    platform: &'static str,
    sha256: &'static str,
}

/// Taken with `pip download pypdfium2==5.15.2 --no-deps --only-binary=:all: --platform PLATFORM`.
#[rustfmt::skip]
const WHEELS: &[Wheel] = &[
    Wheel { os: "linux", arch: "x86_64", libc: "gnu", platform: "manylinux_2_17_x86_64",
            sha256: "dc31aea5b0fb9fefc9b537a65f4113980b2c40798445736a7e6565bc85161e37" },
    Wheel { os: "linux", arch: "aarch64", libc: "gnu", platform: "manylinux_2_17_aarch64",
            sha256: "dd46e93c0c3a73f6cea8489baff6d77a5d0759dd53fbbce0aeb49c91830176fc" },
    Wheel { os: "linux", arch: "x86_64", libc: "musl", platform: "musllinux_1_2_x86_64",
            sha256: "ef452a7178744196d4ff97029f46b56a13817346fc7ee0473c75643512276b3a" },
    Wheel { os: "linux", arch: "aarch64", libc: "musl", platform: "musllinux_1_2_aarch64",
            sha256: "71ba93a356708cb2a7b1a82dbc2c07ddb62c501e35bb6a67c7323e1da6ae9cb7" },
    Wheel { os: "macos", arch: "aarch64", libc: "", platform: "macosx_13_0_arm64",
            sha256: "e71fe832e94421ac3c28d6a6ed4a9e61f22417089652d339f391c4ffc2a44c35" },
    Wheel { os: "macos", arch: "x86_64", libc: "", platform: "macosx_13_0_x86_64",
            sha256: "7f296a298074d76fb7c3d1ecb80d7097a96778bf0ad9c5c48a0170e56e2c6821" },
    Wheel { os: "windows", arch: "x86_64", libc: "", platform: "win_amd64",
            sha256: "74d1bace34fb01c660d0b64344d5a4b7d276942b7c6623c88ab59ea21c5acfbd" },
    Wheel { os: "windows", arch: "aarch64", libc: "", platform: "win_arm64",
            sha256: "a20398367f188eb817be156bfd00077dcb5f8ad06c093849f3fa70b8087b4a87" },
];

impl Wheel {
    fn of_this_machine() -> Result<Self> {
        let libc = match (cfg!(target_os = "linux"), cfg!(target_env = "musl")) {
            (false, _) => "",
            (true, true) => "musl",
            (true, false) => "gnu",
        };
        let (os, arch) = (env::consts::OS, env::consts::ARCH);
        WHEELS
            .iter()
            .find(|w| (w.os, w.arch, w.libc) == (os, arch, libc))
            .copied()
            .ok_or_else(|| {
                Diagnostic::error(format!("no libpdfium is known for {os} on {arch}"))
                    .hint("build or find a libpdfium for this machine and set `VLFT_PDFIUM` to it")
            })
    }
}

/// Where the library goes: a directory named after its build, so that an update leaves old
/// programs their copy.
pub(super) fn cached_library() -> Result<PathBuf> {
    Ok(cache_dir()?
        .join(format!("pdfium-{BUILD}"))
        .join(file_name()))
}

/// Downloads libpdfium with pip into the cache, replacing a broken one there.
///
/// # Errors
/// No cache directory, no Python with pip, no connection, a wheel that is not the pinned one, or a
/// library that does not load here. Nothing is left behind then.
pub fn install() -> Result<Library> {
    let target = cached_library()?;
    install_at(&target, Wheel::of_this_machine()?, PYTHONS)?;
    Ok(Library {
        path: target,
        source: Source::Cache,
        build: Some(BUILD),
        passed_over: None,
    })
}

/// The version line of the first Python that has pip; `--fix` needs one.
pub fn pip_version() -> Option<String> {
    PYTHONS.iter().find_map(|python| {
        let output = Command::new(python)
            .args(["-m", "pip", "--version"])
            .output()
            .ok()?;
        let line = String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()?
            .trim()
            .to_owned();
        output.status.success().then(|| format!("{python}: {line}"))
    })
}

fn install_at(target: &Path, wheel: Wheel, pythons: &[&str]) -> Result<()> {
    let folder = target
        .parent()
        .expect("the cached library lies in a directory");
    fs::create_dir_all(folder).map_err(|e| cannot("create", folder, e))?;
    let scratch = tempfile::Builder::new()
        .prefix(".download-")
        .tempdir_in(folder)
        .map_err(|e| cannot("create", folder, e))?;

    let file = download(scratch.path(), wheel, pythons)?;
    let bytes = fs::read(&file).map_err(|e| cannot("read", &file, e))?;
    let found = sha256(&bytes);
    if found != wheel.sha256 {
        return Err(Diagnostic::error("the downloaded wheel is not the pinned one")
            .at(file.file_name().unwrap_or_default())
            .expected(format!("SHA-256 {}", wheel.sha256))
            .found(found)
            .hint("pip's index served another file; check pip's configuration (`pip config list`)"));
    }

    let library = scratch.path().join(file_name());
    unpack_library(&bytes, &library)?;
    probe(&library).map_err(|reason| {
        Diagnostic::error("the downloaded libpdfium does not load on this machine")
            .caused_by(reason)
            .hint("set `VLFT_PDFIUM` to a libpdfium that was built for this system")
    })?;
    match fs::rename(&library, target) {
        Ok(()) => Ok(()),
        // On Windows a library that is in use cannot be replaced; then it is good already.
        Err(_) if target.exists() && probe(target).is_ok() => Ok(()),
        Err(e) => Err(cannot("rename", &library, e)),
    }
}

/// Lets the first Python that has pip download the wheel into `scratch`.
fn download(scratch: &Path, wheel: Wheel, pythons: &[&str]) -> Result<PathBuf> {
    let mut failures = Vec::new();
    for python in pythons {
        // The platform is spelled out: this Python may be built for another one than we are.
        let outcome = Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                PACKAGE,
                "--no-deps",
                "--only-binary=:all:",
            ])
            .args(["--platform", wheel.platform])
            .args(["--quiet", "--no-input", "--disable-pip-version-check", "-d"])
            .arg(scratch)
            .output();
        match outcome {
            Err(e) => failures.push(format!("`{python}`: {e}")),
            Ok(output) if !output.status.success() => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                failures.push(format!("`{python} -m pip`: {}", last_words(&said)));
            }
            Ok(_) => match wheel_in(scratch)? {
                Some(file) => return Ok(file),
                None => failures.push(format!("`{python} -m pip`: it wrote no wheel")),
            },
        }
    }
    let error = Diagnostic::error(format!("cannot download `{PACKAGE}` with pip"));
    Err(failures
        .into_iter()
        .fold(error, |error, failure| error.caused_by(failure))
        .hint(
            "install Python 3 with pip and connect to the network, or copy a libpdfium here and set `VLFT_PDFIUM` to it",
        ))
}

/// The line that says most: pip's last `ERROR:`, else its last line.
fn last_words(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|l| !l.is_empty());
    let line = lines()
        .rfind(|l| l.starts_with("ERROR:"))
        .or_else(|| lines().next_back());
    line.unwrap_or("failed without a message").to_owned()
}

fn wheel_in(dir: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir).map_err(|e| cannot("read", dir, e))? {
        let path = entry.map_err(|e| cannot("read", dir, e))?.path();
        if path.extension().is_some_and(|e| e == "whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Takes the one library out of the wheel, which is a zip.
fn unpack_library(wheel: &[u8], target: &Path) -> Result<()> {
    let broken = |e: zip::result::ZipError| {
        Diagnostic::error("the wheel has no libpdfium for this system").caused_by(e)
    };
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(wheel)).map_err(broken)?;
    let name = format!("pypdfium2_raw/{}", file_name().display());
    let mut entry = archive.by_name(&name).map_err(broken)?;
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|e| cannot("read", Path::new(&name), e))?;
    let mut file = fs::File::create(target).map_err(|e| cannot("create", target, e))?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| cannot("write", target, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_a_sha256_and_no_two_are_equal() {
        for (i, wheel) in WHEELS.iter().enumerate() {
            assert_eq!(wheel.sha256.len(), 64);
            assert!(wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
            assert!(
                WHEELS[i + 1..]
                    .iter()
                    .all(|other| other.sha256 != wheel.sha256)
            );
        }
    }

    /// A Python that "downloads" a file we wrote, so that the test needs no network.
    #[cfg(unix)]
    fn fake_python(dir: &Path, wheel: &[u8], exit: i32) -> String {
        use std::os::unix::fs::PermissionsExt;
        fs::write(dir.join("w.whl"), wheel).unwrap();
        let script = dir.join("python");
        let copy = format!(
            "#!/bin/sh\nfor last; do :; done\ncp '{}' \"$last/p.whl\"\necho 'ERROR: no route' >&2\nexit {exit}\n",
            dir.join("w.whl").display()
        );
        fs::write(&script, copy).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script.to_str().unwrap().to_owned()
    }

    fn zip_of(name: &str, content: &[u8]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[cfg(unix)]
    #[test]
    fn a_wheel_that_is_not_the_pinned_one_is_refused_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let python = fake_python(dir.path(), b"something else", 0);
        let target = dir.path().join("cache").join(file_name());
        let wheel = WHEELS[0];
        let error = install_at(&target, wheel, &[&python]).unwrap_err();
        assert_eq!(
            error.message(),
            "the downloaded wheel is not the pinned one"
        );
        assert_eq!(fs::read_dir(dir.path().join("cache")).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_library_that_does_not_load_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("pypdfium2_raw/{}", file_name().display());
        let bytes = zip_of(&name, b"\x7fELF garbage");
        let sha256: &'static str = sha256(&bytes).leak();
        let python = fake_python(dir.path(), &bytes, 0);
        let target = dir.path().join("cache").join(file_name());
        let error = install_at(
            &target,
            Wheel {
                sha256,
                ..WHEELS[0]
            },
            &[&python],
        )
        .unwrap_err();
        assert!(error.message().contains("does not load"), "{error}");
        assert!(!target.exists());
    }

    #[cfg(unix)]
    #[test]
    fn every_python_that_failed_is_named_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let python = fake_python(dir.path(), b"", 1);
        let wheel = WHEELS[0];
        let error = download(dir.path(), wheel, &["vlft-no-such-python", &python]).unwrap_err();
        assert_eq!(error.causes().len(), 2);
        assert!(error.causes()[0].contains("vlft-no-such-python"));
        assert!(
            error.causes()[1].ends_with("ERROR: no route"),
            "{:?}",
            error.causes()
        );
    }
}
