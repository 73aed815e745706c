//! Where a model runs.

use std::str::FromStr;

use vlft_base::{Diagnostic, Kind, Result};

/// `cpu`, or a GPU by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Device {
    #[default]
    Cpu,
    Cuda(usize),
}

impl FromStr for Device {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) if number.parse::<usize>().is_ok() => {
                Ok(Self::Cuda(number.parse().expect("just parsed")))
            }
            _ => {
                Err(Diagnostic::error(format!("unknown device `{text}`"))
                    .expected("`cpu` or `cuda:N`"))
            }
        }
    }
}

impl Device {
    /// The device as the tensor library knows it.
    pub(crate) fn open(self) -> Result<burn::tensor::Device> {
        match self {
            Self::Cpu => Ok(burn::tensor::Device::flex()),
            Self::Cuda(number) => Err(Diagnostic::error(format!(
                "no GPU support in this build, asked for `cuda:{number}`"
            ))
            .with_kind(Kind::Device)
            .hint("`--device cpu`; GPUs come with a later version")),
        }
    }
}
