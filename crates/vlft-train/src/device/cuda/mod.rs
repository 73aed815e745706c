//! NVIDIA cards: what a run on one needs besides the driver, found or said in one line.
//!
//! Kernels are compiled when they are first used: CUDA C++ by NVRTC, with CUDA's headers. Both come
//! with a toolkit or as Python wheels ([`toolkit`]).

mod toolkit;

use std::env;
use std::ffi::OsString;

use burn::tensor::Device;
use vlft_base::format::bytes;
use vlft_base::paths::cache_dir;
use vlft_base::{Diagnostic, Kind, Result};
use vlft_dataset::doctor::{Check, Verdict};
use vlft_kernels::cuda::{self, Driver, NoDriver, Version};

use toolkit::Places;

/// Set for the copy of the program that has the libraries in reach, so that there is no third.
pub const PREPARED: &str = "VLFT_CUDA_PREPARED";

/// The oldest CUDA whose driver is spoken to; `CUDARC_CUDA_VERSION` in `.cargo/config.toml`.
const OLDEST: Version = Version {
    major: 12,
    minor: 4,
};

/// Whether there is a driver with a card.
pub(super) fn has_card() -> bool {
    cuda::driver().is_ok_and(|driver| !driver.cards.is_empty())
}

/// The card, once everything that a run on it needs has been found.
pub(super) fn open(number: usize) -> Result<Device> {
    let driver = cuda::driver().map_err(no_driver)?;
    card(&driver, number)?;
    compiler(Some(driver.cuda))?;
    // Without a cache directory every start compiles anew.
    if let Ok(cache) = cache_dir() {
        cuda::keep_kernels_in(&cache.join("kernels"));
    }
    let device = Device::cuda(number);
    cuda::measure(&device);
    Ok(device)
}

/// What the environment of this process lacks so that its libraries are found: variables for a copy
/// of it. None if nothing is missing, or if there is nothing to offer.
///
/// The loader reads `LD_LIBRARY_PATH` when a process begins, which is why it must be a copy.
///
/// # Errors
/// The folder with the links cannot be written.
pub fn environment() -> Result<Option<Vec<(&'static str, OsString)>>> {
    if !cfg!(target_os = "linux") || env::var_os(PREPARED).is_some() {
        return Ok(None);
    }
    let newest = cuda::driver().ok().map(|driver| driver.cuda);
    let places = Places::of_this_machine(newest);
    let fits = |nvrtc| newest.is_none_or(|newest| nvrtc <= newest);
    if cuda::nvrtc().is_some_and(fits) && places.headers_in_reach() {
        return Ok(None);
    }
    let Ok(toolkit) = places.find() else {
        return Ok(None);
    };
    let folder = toolkit.linked(&cache_dir()?)?;
    let mut libraries = vec![folder.join("lib")];
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        libraries.extend(env::split_paths(&path).filter(|path| !path.as_os_str().is_empty()));
    }
    let libraries = env::join_paths(libraries).map_err(|e| {
        Diagnostic::error("the cache directory has a `:` in its name")
            .caused_by(e)
            .hint("set `VLFT_CACHE` to another directory")
    })?;
    Ok(Some(vec![
        ("CUDA_PATH", folder.into_os_string()),
        ("LD_LIBRARY_PATH", libraries),
        (PREPARED, "1".into()),
    ]))
}

/// The lines of `vlft doctor`: driver, cards, NVRTC and headers.
pub fn checks() -> Vec<Check> {
    let driver = match cuda::driver() {
        Ok(driver) => driver,
        Err(reason) => {
            let error = no_driver(reason);
            let text = format!("{}; models run on the CPU", error.message());
            // No card is no fault of a laptop.
            let check = Check {
                details: error.causes().to_vec(),
                ..Check::new(Verdict::Info, "gpu", text)
            };
            let check = match error.hint_text() {
                Some(hint) => check.hint(hint),
                None => check,
            };
            let found = compiler(None).map(|text| Check::new(Verdict::Info, "nvrtc", text));
            return [check].into_iter().chain(found.ok()).collect();
        }
    };
    let cards = driver.cards.iter().enumerate().map(|(number, card)| {
        let text = format!(
            "cuda:{number}: {}, {}, sm_{}",
            card.name,
            bytes(card.memory_bytes),
            card.architecture
        );
        Check::new(Verdict::Ok, "gpu", text)
    });
    let text = format!("the driver understands CUDA {}", driver.cuda);
    let mut checks = vec![match too_old(driver.cuda) {
        None => Check::new(Verdict::Ok, "driver", text),
        Some(error) => Check::failed("driver", &error),
    }];
    checks.extend(cards);
    checks.push(match compiler(Some(driver.cuda)) {
        Ok(text) => Check::new(Verdict::Ok, "nvrtc", text),
        Err(error) => Check::failed("nvrtc", &error),
    });
    checks
}

fn no_driver(reason: NoDriver) -> Diagnostic {
    match reason {
        NoDriver::NoLibrary => device_error("no NVIDIA driver: the loader finds no libcuda")
            .hint("on a machine with an NVIDIA card install its driver (550 or newer), in a container start it with `--gpus all`; otherwise `--device cpu`"),
        NoDriver::Refused(words) => device_error("the NVIDIA driver does not work")
            .caused_by(words)
            .hint("see what `nvidia-smi` says; otherwise `--device cpu`"),
    }
}

fn card(driver: &Driver, number: usize) -> Result<()> {
    if let Some(error) = too_old(driver.cuda) {
        return Err(error);
    }
    let Some(card) = driver.cards.get(number) else {
        let cards = driver.cards.iter().enumerate();
        let known: Vec<String> = cards
            .map(|(n, card)| format!("`cuda:{n}` ({})", card.name))
            .collect();
        return Err(device_error(format!("there is no GPU `cuda:{number}`"))
            .expected(match known.is_empty() {
                true => "a card that the driver sees".to_owned(),
                false => known.join(", "),
            })
            .hint("`CUDA_VISIBLE_DEVICES` hides cards and changes their numbers"));
    };
    if card.architecture < 80 {
        return Err(device_error(format!("{} has no bf16", card.name))
            .expected("compute capability 8.0 or newer (Ampere: A6000, A100, RTX 3090)")
            .found(format!("sm_{}", card.architecture)));
    }
    Ok(())
}

fn too_old(driver: Version) -> Option<Diagnostic> {
    (driver < OLDEST).then(|| {
        device_error("the NVIDIA driver is too old")
            .expected(format!("one for CUDA {OLDEST} (550) or newer"))
            .found(format!("CUDA {driver}"))
            .hint("rent a machine with a newer driver, or update it")
    })
}

/// What will compile the kernels, for people. `driver`: what it may be compiled for at most.
fn compiler(driver: Option<Version>) -> Result<String> {
    let places = Places::of_this_machine(driver);
    let missing = |what: &str| {
        let error = device_error(what).hint(toolkit::install(driver.unwrap_or(OLDEST)));
        let tried = places.find().err().unwrap_or_default();
        tried.into_iter().fold(error, Diagnostic::caused_by)
    };
    let Some(nvrtc) = cuda::nvrtc() else {
        return Err(missing(
            "no run-time compiler: the loader finds no libnvrtc",
        ));
    };
    if let Some(driver) = driver.filter(|driver| nvrtc > *driver) {
        return Err(
            missing("the driver cannot load what the run-time compiler makes")
                .expected(format!("NVRTC {driver} or older"))
                .found(nvrtc.to_string()),
        );
    }
    let Some(headers) = places.cuda_path().filter(|_| places.headers_in_reach()) else {
        return Err(missing("no CUDA headers"));
    };
    let headers = headers.join("include");
    Ok(format!("NVRTC {nvrtc}, headers in `{}`", headers.display()))
}

fn device_error(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(message).with_kind(Kind::Device)
}
