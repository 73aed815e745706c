//! What CUDA this machine has, asked before anything is computed: CubeCL panics where something is
//! missing, and a person should read one line instead.

#![allow(unsafe_code)] // Calls into the driver and NVRTC.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::std::throughput::measure_peak_throughput;
use cubecl::throughput::{MemoryAccess, MemorySpec, ThroughputKey, ThroughputMode};
use cudarc::driver::result;
use cudarc::driver::sys::{CUdevice, CUdevice_attribute};

use crate::cube::primitive;

/// A version as NVIDIA counts them: of the driver's CUDA, or of NVRTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// One GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    pub name: String,
    pub memory_bytes: u64,
    /// 80 for compute capability 8.0, and so on.
    pub architecture: u32,
}

/// The driver and its cards, in the driver's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Driver {
    /// The newest CUDA that the driver understands.
    pub cuda: Version,
    pub cards: Vec<Card>,
}

/// Why there is no driver to speak to.
#[derive(Clone, Debug, PartialEq)]
pub enum NoDriver {
    /// The loader finds no libcuda.
    NoLibrary,
    /// The driver's own words.
    Refused(String),
}

/// The driver, asked for everything that needs no context on a card.
///
/// # Errors
/// There is none, or it does not work (no card, a kernel module of another version, ..).
pub fn driver() -> Result<Driver, NoDriver> {
    // SAFETY: the library is opened by name, as CubeCL does; a libcuda has no unsound initialiser.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err(NoDriver::NoLibrary);
    }
    let ask = || {
        result::init()?;
        let mut version = 0;
        // SAFETY: the driver writes one integer where the pointer says.
        unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result()?;
        let cards = (0..result::device::get_count()?).map(card);
        Ok(Driver {
            cuda: counted(version),
            cards: cards.collect::<Result<_, _>>()?,
        })
    };
    ask().map_err(|error: result::DriverError| NoDriver::Refused(words(&error)))
}

fn card(number: i32) -> Result<Card, result::DriverError> {
    let device = result::device::get(number)?;
    let attribute = |attribute: CUdevice_attribute| attribute_of(device, attribute);
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(Card {
        name: result::device::get_name(device)?,
        // SAFETY: the device was just given by the driver.
        memory_bytes: unsafe { result::device::total_mem(device) }? as u64,
        architecture: (10 * major + minor) as u32,
    })
}

fn attribute_of(
    device: CUdevice,
    attribute: CUdevice_attribute,
) -> Result<i32, result::DriverError> {
    // SAFETY: the device was given by the driver.
    unsafe { result::device::get_attribute(device, attribute) }
}

/// The version of the NVRTC that the loader finds; none where it finds none.
pub fn nvrtc() -> Option<Version> {
    use cudarc::nvrtc::sys;
    // SAFETY: as for the driver; the version is written to two integers that live long enough.
    unsafe {
        if !sys::is_culib_present() {
            return None;
        }
        let (mut major, mut minor) = (0, 0);
        sys::nvrtcVersion(&mut major, &mut minor).result().ok()?;
        Some(Version {
            major: major as u32,
            minor: minor as u32,
        })
    }
}

/// Keeps what is found out and compiled in a folder, so that the next start need not do it again: the
/// kernels, and which of several is the fastest for a shape. Before the first tensor on a GPU; a
/// `cubecl.toml` in the working directory still counts for everything else.
pub fn keep_kernels_in(folder: &Path) {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    config.environment.path = CacheConfig::Directory(folder.to_path_buf());
    // Whoever set it first, such as a test, is right.
    CubeClRuntimeConfig::try_set(config);
}

/// Measures how fast a card copies pieces of each size, which CubeCL asks when it chooses kernels: while
/// nothing lies in the card's memory yet, since the largest takes 2 GiB for a moment. What was measured is kept
/// with the kernels, so another start asks the card nothing.
pub fn measure(device: &Device) {
    let client = primitive(Tensor::zeros([1, 1], device)).client;
    for bytes in (13..=LARGEST_PIECE).map(|exponent| 1 << exponent) {
        let mode = ThroughputMode::Memory(MemorySpec::new(MemoryAccess::Copy, bytes));
        // What could not be measured, such as for want of memory, is asked again when it is needed.
        let _ = measure_peak_throughput(&client, ThroughputKey { mode });
    }
}

/// As a power of two: 1 GiB, more than the operands of any product here but the head's.
const LARGEST_PIECE: u32 = 30;

/// 12040 is 12.4.
fn counted(version: i32) -> Version {
    let version = version.unsigned_abs();
    Version {
        major: version / 1000,
        minor: version % 1000 / 10,
    }
}

fn words(error: &result::DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy());
    let text = error.error_string().map(|text| text.to_string_lossy());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name}: {text}"),
        _ => format!("CUDA error {}", error.0 as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_as_nvidia_does() {
        assert_eq!(counted(12_040).to_string(), "12.4");
        assert_eq!(counted(13_010).to_string(), "13.1");
        assert!(counted(12_080) > counted(12_040) && counted(13_000) > counted(12_090));
    }
}
