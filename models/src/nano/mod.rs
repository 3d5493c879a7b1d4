//! nano, the embedded default: one frozen EfficientNet-Lite0, three heads on its features, and a small text tower.
//!
//! | module | what |
//! |---|---|
//! | [`backbone`] | picture → feature maps, once a frame |
//! | [`embed`] | features → a point of the joint image-text space |
//! | [`ground`] | features and a phrase → scored boxes |
//! | [`caption`] | features → one sentence |

pub mod backbone;
pub mod backbone_import;
