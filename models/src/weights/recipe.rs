//! How a parameter is stored.

use burn::tensor::DType;
use ocelli_ops::GroupBits;

/// How a parameter is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// f32.
    F32,
    /// f16.
    F16,
    /// f32 in the kernels' order.
    F32Packed {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// f16 in the kernels' order.
    F16Packed {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// One scale a row.
    Int8 {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// One scale a row, in the kernels' order.
    Int8Packed {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// Eight bits and one scale for 32 columns of a row, in the kernels' order.
    Int8GroupsPacked {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// One scale for 32 columns of a row, in the kernels' order.
    Int4Packed {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// One scale for 32 columns of a row.
    Int4 {
        /// Of the transposed matrix.
        transposed: bool,
    },
}

impl Recipe {
    pub(super) fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None => Self::F32,
            Some("f16") => Self::F16,
            Some("f32.p") => Self::F32Packed { transposed: false },
            Some("f32.t.p") => Self::F32Packed { transposed: true },
            Some("f16.p") => Self::F16Packed { transposed: false },
            Some("f16.t.p") => Self::F16Packed { transposed: true },
            Some("int8") => Self::Int8 { transposed: false },
            Some("int8.t") => Self::Int8 { transposed: true },
            Some("int8.p") => Self::Int8Packed { transposed: false },
            Some("int8.t.p") => Self::Int8Packed { transposed: true },
            Some("int8g.p") => Self::Int8GroupsPacked { transposed: false },
            Some("int8g.t.p") => Self::Int8GroupsPacked { transposed: true },
            Some("int4.p") => Self::Int4Packed { transposed: false },
            Some("int4.t.p") => Self::Int4Packed { transposed: true },
            Some("int4") => Self::Int4 { transposed: false },
            Some("int4.t") => Self::Int4 { transposed: true },
            Some(_) => return None,
        })
    }

    /// As the manifest names it; `None`: as it is, in single precision.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::F32 => None,
            Self::F16 => Some("f16"),
            Self::F32Packed { transposed: false } => Some("f32.p"),
            Self::F32Packed { transposed: true } => Some("f32.t.p"),
            Self::F16Packed { transposed: false } => Some("f16.p"),
            Self::F16Packed { transposed: true } => Some("f16.t.p"),
            Self::Int8 { transposed: false } => Some("int8"),
            Self::Int8 { transposed: true } => Some("int8.t"),
            Self::Int8Packed { transposed: false } => Some("int8.p"),
            Self::Int8Packed { transposed: true } => Some("int8.t.p"),
            Self::Int8GroupsPacked { transposed: false } => Some("int8g.p"),
            Self::Int8GroupsPacked { transposed: true } => Some("int8g.t.p"),
            Self::Int4Packed { transposed: false } => Some("int4.p"),
            Self::Int4Packed { transposed: true } => Some("int4.t.p"),
            Self::Int4 { transposed: false } => Some("int4"),
            Self::Int4 { transposed: true } => Some("int4.t"),
        }
    }

    /// Integers with a scale for 32 columns of a row, in the kernels' order.
    pub fn groups(bits: GroupBits, transposed: bool) -> Self {
        match bits {
            GroupBits::Int4 => Self::Int4Packed { transposed },
            GroupBits::Int8 => Self::Int8GroupsPacked { transposed },
        }
    }

    /// The type of a float recipe.
    pub(super) fn float(self) -> DType {
        if matches!(self, Self::F16 | Self::F16Packed { .. }) { DType::F16 } else { DType::F32 }
    }

    /// Whether rows are of groups of 32 columns.
    pub(super) fn in_groups(self) -> bool {
        matches!(self, Self::Int4 { .. } | Self::Int4Packed { .. } | Self::Int8GroupsPacked { .. })
    }

    /// As people and recipe files name it: the order of storage left out.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::F32 | Self::F32Packed { .. } => "f32",
            Self::F16 | Self::F16Packed { .. } => "f16",
            Self::Int8 { .. } | Self::Int8Packed { .. } => "int8",
            Self::Int8GroupsPacked { .. } => "int8g",
            Self::Int4 { .. } | Self::Int4Packed { .. } => "int4",
        }
    }

    /// Whether what is stored is the transposed matrix.
    pub fn transposed(self) -> bool {
        match self {
            Self::F32 | Self::F16 => false,
            Self::F32Packed { transposed }
            | Self::F16Packed { transposed }
            | Self::Int8 { transposed }
            | Self::Int4 { transposed }
            | Self::Int8Packed { transposed }
            | Self::Int8GroupsPacked { transposed }
            | Self::Int4Packed { transposed } => transposed,
        }
    }
}
