//! `--device`, and what a GPU needs of the process that uses it.

use vlft_base::Result;
use vlft_train::device::Device;

/// What `--device` says, or the best device there is; in a process that can use it.
///
/// # Errors
/// See [`prepare`].
pub(crate) fn chosen(asked: Option<Device>) -> Result<Device> {
    let device = asked.unwrap_or_default();
    if matches!(device, Device::Cuda(_)) {
        prepare()?;
    }
    Ok(device)
}

/// Where CUDA's compiler lies only in Python wheels, this process begins again with it in reach: the
/// loader reads its path once, when a process begins. Nothing has been done by then.
///
/// # Errors
/// The folder of links cannot be written, or the program cannot be started again.
#[cfg(all(feature = "cuda", unix))]
pub(crate) fn prepare() -> Result<()> {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use vlft_base::Diagnostic;

    let Some(environment) = vlft_train::device::cuda::environment()? else {
        return Ok(());
    };
    let started = env::current_exe().map(|program| {
        let mut again = Command::new(program);
        again.args(env::args_os().skip(1)).envs(environment);
        // Comes back only if it failed.
        again.exec()
    });
    let (Ok(error) | Err(error)) = started;
    Err(Diagnostic::error("cannot start the program again with CUDA in reach").caused_by(error))
}

#[cfg(not(all(feature = "cuda", unix)))]
pub(crate) fn prepare() -> Result<()> {
    Ok(())
}
