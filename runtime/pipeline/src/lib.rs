//! What happens to a frame: where it comes from, who looks at it, and where the result goes. No hardware, no tensors.
//!
//! In the order of a frame's journey:
//!
//! | module | what |
//! |---|---|
//! | [`clock`] | the monotonic clock that ages are measured on, real or faked (`testing`) |
//! | [`picture`] | one encoded picture to an RGB frame, within limits: [`picture::decode`] |
//! | `jpeg` | JPEG to the bit as libjpeg decodes it |
//! | [`source`] | a picture, a folder, a pattern as a stream: [`Pictures`] |
//! | [`pool`] | a fixed number of frame buffers: [`Pool`] |
//! | [`newest`] | from a capture thread to its consumer, newest frame wins: [`Live`] |
//! | [`run`](mod@run) | the loop: one encode a frame, heads that share it, the sink: [`run()`], [`Plan`], [`Summary`] |
//! | [`json`] | the lines of `--json`, the same for every command |
//! | [`sink`] | [`JsonLines`], [`Tee`] |
//! | [`annotate`] | pictures with boxes, labels and the caption drawn: [`Annotate`], on [`canvas`] |
//! | `testing` | fakes of clock, source, model and sink (feature `testing`) |
#![forbid(unsafe_code)]

pub mod annotate;
pub mod canvas;
pub mod clock;
mod font;
mod jpeg;
pub mod json;
pub mod newest;
pub mod picture;
pub mod pool;
pub mod run;
pub mod sink;
pub mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use annotate::Annotate;
pub use clock::{Clock, Monotonic};
pub use newest::Live;
pub use pool::Pool;
pub use run::{CaptionPlan, Plan, RunError, Summary, run};
pub use sink::{JsonLines, Tee};
pub use source::{PictureOptions, Pictures};
