//! Which device computes.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "wgpu")]
use std::sync::OnceLock;

use burn::tensor::Device;

/// A device as a user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The fastest there is: today the CPU.
    #[default]
    Auto,
    /// burn-flex.
    Cpu,
    /// burn-wgpu.
    Gpu,
    /// burn-ndarray, the oracle.
    NdArray,
}

/// A device that cannot be had.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a name of a device.
    #[error("device {0:?} is not known; use auto, cpu, gpu or ndarray")]
    Unknown(String),
    /// Not in this build.
    #[error("this build of ocelli has no device {device}: {cure}")]
    NotBuilt {
        /// The device.
        device: DeviceChoice,
        /// What to do.
        cure: &'static str,
    },
    /// No GPU, or none with a driver that wgpu can use.
    #[error(
        "no GPU was found ({reason}): install a Vulkan driver for it (on Debian mesa-vulkan-drivers and libvulkan1, which compute without \
         a GPU, too), or use --device cpu"
    )]
    NoAdapter {
        /// As wgpu says it.
        reason: String,
    },
    /// A GPU that is there and cannot be used.
    #[error("the GPU cannot be used ({reason}): choose another with CUBECL_WGPU_DEFAULT_DEVICE, or use --device cpu")]
    Unusable {
        /// As wgpu says it.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            "ndarray" => Ok(Self::NdArray),
            _ => Err(DeviceError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::NdArray => "ndarray",
        })
    }
}

/// The burn device of a choice.
pub fn select(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        DeviceChoice::Gpu => gpu(),
        #[cfg(not(feature = "wgpu"))]
        DeviceChoice::Gpu => Err(DeviceError::NotBuilt { device: choice, cure: "build it with --features wgpu, or use --device cpu" }),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)] // an oracle for tests, deprecated upstream in favour of flex
        DeviceChoice::NdArray => Ok(Device::ndarray()),
        #[cfg(not(feature = "ndarray"))]
        DeviceChoice::NdArray => {
            Err(DeviceError::NotBuilt { device: choice, cure: "build it with --features ndarray, or use --device cpu" })
        }
    }
}

/// wgpu's default device, set up once for the whole process: burn refuses to do it again.
///
/// `Device::wgpu` would put it off until the first tensor, and panic there where there is no adapter.
#[cfg(feature = "wgpu")]
fn gpu() -> Result<Device, DeviceError> {
    use burn::tensor::wgpu::WgpuInitError;

    static GPU: OnceLock<Result<Device, DeviceError>> = OnceLock::new();
    let set_up = || {
        Device::wgpu_options().init().map_err(|error| {
            // On one line, whatever the driver says.
            let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            match error {
                WgpuInitError::AdapterUnavailable { .. } | WgpuInitError::UnsupportedGraphicsApi { .. } => {
                    DeviceError::NoAdapter { reason }
                }
                _ => DeviceError::Unusable { reason },
            }
        })
    };
    GPU.get_or_init(set_up).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Gpu, DeviceChoice::NdArray] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("tpu".parse::<DeviceChoice>(), Err(DeviceError::Unknown("tpu".into())));
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(select(DeviceChoice::Auto).is_ok());
        assert!(select(DeviceChoice::Cpu).is_ok());
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn without_its_feature_there_is_no_gpu() {
        assert!(matches!(select(DeviceChoice::Gpu), Err(DeviceError::NotBuilt { .. })));
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn the_gpu_is_the_same_each_time_or_missing() {
        let first = select(DeviceChoice::Gpu);
        assert_eq!(select(DeviceChoice::Gpu), first);
        assert!(matches!(first, Ok(_) | Err(DeviceError::NoAdapter { .. })), "{first:?}");
    }
}
