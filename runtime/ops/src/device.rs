//! Which device computes.

use std::fmt;
use std::str::FromStr;

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
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
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
        DeviceChoice::Gpu => Err(DeviceError::NotBuilt { device: choice, cure: "GPU support comes in a later version; use --device cpu" }),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)] // an oracle for tests, deprecated upstream in favour of flex
        DeviceChoice::NdArray => Ok(Device::ndarray()),
        #[cfg(not(feature = "ndarray"))]
        DeviceChoice::NdArray => {
            Err(DeviceError::NotBuilt { device: choice, cure: "build it with --features ndarray, or use --device cpu" })
        }
    }
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
        assert!(matches!(select(DeviceChoice::Gpu), Err(DeviceError::NotBuilt { .. })));
    }
}
