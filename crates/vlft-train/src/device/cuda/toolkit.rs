//! NVRTC and CUDA's headers on this machine: in a toolkit, or in Python wheels. What lies scattered
//! over several wheels is linked into one folder of the shape that CubeCL looks for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vlft_base::Result;
use vlft_base::digest::sha256;
use vlft_base::output::cannot;
use vlft_base::paths::PYTHONS;
use vlft_kernels::cuda::Version;

/// What CubeCL's kernels include, and what that includes in turn: half types, tensor cores (`crt/mma.h`
/// is in another wheel than `mma.h`), barriers (CCCL).
const HEADERS: [&str; 6] = [
    "cuda_fp16.h",
    "cuda_bf16.h",
    "mma.h",
    "crt/mma.h",
    "cooperative_groups.h",
    "cuda/barrier",
];

/// Where toolkits install themselves, in CubeCL's order.
const ROOTS: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];

/// All that the search depends on, so that tests can choose it.
pub(super) struct Places {
    /// `CUDA_PATH`. When it is set, CubeCL looks nowhere else.
    named: Option<PathBuf>,
    roots: Vec<PathBuf>,
    /// Folders `nvidia` of Python packages.
    wheels: Vec<PathBuf>,
    /// The newest CUDA that the driver can load.
    newest: Option<Version>,
}

/// A compiler and the headers it needs.
#[derive(Debug, PartialEq)]
pub(super) struct Toolkit {
    /// For people.
    pub(super) root: PathBuf,
    includes: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl Places {
    /// `newest`: what the driver can load.
    pub(super) fn of_this_machine(newest: Option<Version>) -> Self {
        Self {
            named: env::var_os("CUDA_PATH")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            roots: ROOTS.iter().map(PathBuf::from).collect(),
            wheels: wheels(),
            newest,
        }
    }

    /// The folder that CubeCL takes headers from (`cubecl-cuda/src/lib.rs`).
    pub(super) fn cuda_path(&self) -> Option<PathBuf> {
        let installed = || self.roots.iter().find(|root| root.exists()).cloned();
        self.named.clone().or_else(installed)
    }

    /// Whether CubeCL will find all headers without our help.
    pub(super) fn headers_in_reach(&self) -> bool {
        let Some(root) = self.cuda_path() else {
            return false;
        };
        let include = root.join("include");
        lacks(&[include.join("cccl"), include]).is_none()
    }

    /// The first place that has all.
    ///
    /// # Errors
    /// What each place lacks.
    pub(super) fn find(&self) -> std::result::Result<Toolkit, Vec<String>> {
        let named = self
            .named
            .iter()
            .chain(&self.roots)
            .map(|root| toolkit(root));
        let wheels = self.wheels.iter().flat_map(|folder| from_wheels(folder));
        let mut tried = Vec::new();
        for toolkit in named.chain(wheels) {
            let root = toolkit.root.display();
            if !toolkit.root.exists() {
                continue;
            }
            match (lacks(&toolkit.includes), toolkit.version()) {
                (Some(header), _) => tried.push(format!("`{root}` has no `{header}`")),
                (None, None) => tried.push(format!("`{root}` has no libnvrtc")),
                (None, Some(version)) => match self.newest.filter(|newest| version > *newest) {
                    None => return Ok(toolkit),
                    Some(newest) => tried.push(format!(
                        "`{root}` has NVRTC {version}, the driver loads {newest} or older"
                    )),
                },
            }
        }
        Err(tried)
    }
}

impl Toolkit {
    /// Of its NVRTC, as the name of its second library says: `libnvrtc-builtins.so.12.4`. None if one
    /// of the two is not there.
    fn version(&self) -> Option<Version> {
        let names: Vec<String> = self.libraries().iter().map(|path| name(path)).collect();
        let mut versions = names.iter().filter_map(|name| {
            let numbers = name.strip_prefix("libnvrtc-builtins.so.")?;
            let mut numbers = numbers.split('.').map(str::parse);
            let (Ok(major), Ok(minor)) = (numbers.next()?, numbers.next()?) else {
                return None;
            };
            Some(Version { major, minor })
        });
        let first = versions.next()?;
        let compiler = names.iter().any(|name| name.starts_with("libnvrtc.so"));
        compiler.then_some(first)
    }

    /// NVRTC and what it loads itself.
    fn libraries(&self) -> Vec<PathBuf> {
        let folders = self.libraries.iter();
        let files = folders.flat_map(|folder| entries(folder)).filter(|path| {
            let name = name(path);
            name.starts_with("libnvrtc") && name.contains(".so") && !name.contains(".alt.")
        });
        files.collect()
    }

    /// A folder below `cache` with `include` and `lib`, made of links.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn linked(&self, cache: &Path) -> Result<PathBuf> {
        let mut links = Vec::new();
        for include in &self.includes {
            // Wheels have Python's own files beside the headers.
            for path in entries(include).filter(|path| !name(path).starts_with("__")) {
                links.push((Path::new("include").join(name(&path)), path));
            }
        }
        for library in self.libraries() {
            let called = name(&library);
            // CUDA's bindings ask for `libnvrtc.so` first; wheels have only the one with a number.
            if called.starts_with("libnvrtc.so.") {
                links.push((PathBuf::from("lib/libnvrtc.so"), library.clone()));
            }
            links.push((Path::new("lib").join(called), library));
        }
        // The first of a name counts, as along a path of includes.
        let mut seen = std::collections::BTreeSet::new();
        links.retain(|(link, _)| seen.insert(link.clone()));

        let key: String = links
            .iter()
            .map(|(link, to)| format!("{}\t{}\n", link.display(), to.display()))
            .collect();
        let folder = cache.join(format!("cuda-{}", &sha256(key)[..16]));
        if !folder.exists() {
            let partial = cache.join(format!("cuda-{}.partial", std::process::id()));
            write_links(&partial, &links).map_err(|e| cannot("write", &partial, e))?;
            // Another process may have been first; its folder is the same.
            if let Err(error) = fs::rename(&partial, &folder) {
                fs::remove_dir_all(&partial).map_err(|e| cannot("remove", &partial, e))?;
                if !folder.exists() {
                    return Err(cannot("write", &folder, error));
                }
            }
        }
        Ok(folder)
    }
}

/// The one line that installs what is missing, in a version that the driver can load.
pub(super) fn install(driver: Version) -> String {
    let Version { major, minor } = driver;
    let packages: &[&str] = match major {
        ..13 => &["cuda-nvrtc-cu12", "cuda-runtime-cu12", "cuda-nvcc-cu12"],
        _ => &["cuda-nvrtc", "cuda-runtime", "cuda-crt"],
    };
    let pinned = packages
        .iter()
        .map(|package| format!("'nvidia-{package}<{major}.{}'", minor + 1));
    let cccl = match major {
        ..13 => "nvidia-cuda-cccl-cu12",
        _ => "nvidia-cuda-cccl",
    };
    let pinned: Vec<String> = pinned.collect();
    format!(
        "`pip install {} {cccl}`, or a CUDA toolkit {driver} or older under `CUDA_PATH`",
        pinned.join(" ")
    )
}

fn toolkit(root: &Path) -> Toolkit {
    let include = root.join("include");
    Toolkit {
        root: root.to_path_buf(),
        includes: vec![include.join("cccl"), include],
        libraries: ["lib64", "lib", "targets/x86_64-linux/lib"]
            .map(|lib| root.join(lib))
            .into(),
    }
}

/// The two shapes of NVIDIA's wheels below a folder `nvidia`: CUDA 13 in one folder, CUDA 12 in one
/// for each package.
fn from_wheels(nvidia: &Path) -> [Toolkit; 2] {
    let cu12 = |package: &str, folder: &str| nvidia.join(package).join(folder);
    [
        Toolkit {
            root: nvidia.join("cuda_nvrtc"),
            includes: ["cuda_runtime", "cuda_nvcc", "cuda_cccl", "cuda_nvrtc"]
                .map(|package| cu12(package, "include"))
                .into(),
            libraries: vec![cu12("cuda_nvrtc", "lib")],
        },
        toolkit(&nvidia.join("cu13")),
    ]
}

/// The first header that none of the folders has.
fn lacks(includes: &[PathBuf]) -> Option<&'static str> {
    HEADERS
        .into_iter()
        .find(|header| !includes.iter().any(|include| include.join(header).exists()))
}

/// Folders `nvidia` of the active environment, then of the Pythons on the path. They are looked up,
/// not imported.
fn wheels() -> Vec<PathBuf> {
    const LOOK_UP: &str = "import importlib.util as u; s = u.find_spec('nvidia'); \
                           print('\\n'.join(s.submodule_search_locations) if s else '')";
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|root| PathBuf::from(root).join("bin/python").into_os_string());
    let pythons = active.chain(PYTHONS.iter().map(Into::into));
    let mut found = Vec::new();
    for python in pythons {
        let Ok(output) = Command::new(python).args(["-c", LOOK_UP]).output() else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for folder in text.lines().filter(|line| !line.is_empty()) {
            let folder = PathBuf::from(folder);
            if !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
    found
}

fn write_links(folder: &Path, links: &[(PathBuf, PathBuf)]) -> std::io::Result<()> {
    for part in ["include", "lib"] {
        fs::create_dir_all(folder.join(part))?;
    }
    for (link, to) in links {
        #[cfg(unix)]
        std::os::unix::fs::symlink(to, folder.join(link))?;
        #[cfg(not(unix))]
        fs::copy(to, folder.join(link)).map(|_| ())?;
    }
    Ok(())
}

/// What is in a folder, sorted; nothing if it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.into_iter()
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn write(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn places(wheels: &Path) -> Places {
        Places {
            named: None,
            roots: vec![wheels.join("no-toolkit")],
            wheels: vec![wheels.to_path_buf()],
            newest: Some(Version {
                major: 13,
                minor: 0,
            }),
        }
    }

    #[test]
    fn wheels_become_one_folder_and_what_they_lack_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let nvidia = dir.path().join("nvidia");
        write(nvidia.join("cuda_nvrtc/lib/libnvrtc.so.12"));
        write(nvidia.join("cuda_nvrtc/lib/libnvrtc.alt.so.12"));
        write(nvidia.join("cuda_nvrtc/lib/libnvrtc-builtins.so.12.4"));
        let runtime = nvidia.join("cuda_runtime/include");
        for header in [
            "cuda_fp16.h",
            "cuda_bf16.h",
            "mma.h",
            "cooperative_groups.h",
        ] {
            write(runtime.join(header));
        }
        let tried = places(&nvidia).find().unwrap_err();
        assert_eq!(tried.len(), 1);
        assert!(tried[0].contains("`crt/mma.h`"), "{}", tried[0]);

        write(nvidia.join("cuda_nvcc/include/crt/mma.h"));
        write(nvidia.join("cuda_cccl/include/cuda/barrier"));
        let toolkit = places(&nvidia).find().unwrap();
        let cache = dir.path().join("cache");
        let folder = toolkit.linked(&cache).unwrap();
        assert_eq!(
            toolkit.linked(&cache).unwrap(),
            folder,
            "the second time too"
        );
        for file in [
            "include/crt/mma.h",
            "include/cuda/barrier",
            "lib/libnvrtc.so",
            "lib/libnvrtc.so.12",
            "lib/libnvrtc-builtins.so.12.4",
        ] {
            assert!(folder.join(file).exists(), "{file}");
        }
        assert!(!folder.join("lib/libnvrtc.alt.so.12").exists());
        let prepared = Places {
            named: Some(folder),
            roots: Vec::new(),
            wheels: Vec::new(),
            newest: None,
        };
        assert!(prepared.headers_in_reach() && !places(&nvidia).headers_in_reach());
    }

    #[test]
    fn wheels_of_cuda_13_lie_in_one_folder_already() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("cu13");
        write(root.join("lib/libnvrtc.so.13"));
        write(root.join("lib/libnvrtc-builtins.so.13.0"));
        for header in &HEADERS[..5] {
            write(root.join("include").join(header));
        }
        write(root.join("include/cccl/cuda/barrier"));
        let toolkit = places(dir.path()).find().unwrap();
        assert_eq!(toolkit.root, root);
        let folder = toolkit.linked(&dir.path().join("cache")).unwrap();
        assert!(folder.join("lib/libnvrtc.so").exists());
        assert!(folder.join("include/cuda/barrier").exists());

        write(root.join("lib/libnvrtc-builtins.so.13.1"));
        fs::remove_file(root.join("lib/libnvrtc-builtins.so.13.0")).unwrap();
        let tried = places(dir.path()).find().unwrap_err();
        assert!(tried[0].contains("NVRTC 13.1, the driver loads 13.0"));
    }

    #[test]
    fn what_to_install_follows_the_driver() {
        let of = |major, minor| install(Version { major, minor });
        assert!(of(12, 4).contains("'nvidia-cuda-nvrtc-cu12<12.5'"));
        assert!(of(13, 0).contains("'nvidia-cuda-crt<13.1'"));
    }
}
