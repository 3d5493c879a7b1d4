//! `ocelli verify`: whether this build, on this device, still computes what the bundle's golden vectors say.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ocelli_models::golden::{self, Deviation};
use serde::Serialize;

use crate::failure::Outcome;
use crate::session::Session;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle; default: that of -m, or nano
    #[arg(value_name = "M")]
    bundle: Option<PathBuf>,
}

/// The contract's line: one stage of one golden input.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    model: &'a str,
    device: String,
    input: &'a str,
    stage: &'a str,
    /// Largest difference by the largest magnitude; `null` where there is nothing to compare.
    relative: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cosine: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iou: Option<f32>,
    tolerance: f32,
    ok: bool,
}

/// A line a stage; exit code 1 where one is beyond its tolerance.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let bundle = session.unverified_bundle_at(args.bundle.as_deref())?;
    bundle.verify()?;
    let origin = bundle.origin();
    ensure!(
        !bundle.manifest().golden.is_empty(),
        "{origin}: the bundle has no golden vectors, so there is nothing to compare with; import the model again without --no-golden"
    );
    let device = ocelli_ops::device::select(session.device).context("--device")?;
    let deviations = golden::check(&bundle, &device).with_context(|| format!("{origin}: the golden vectors cannot be computed"))?;
    let missed = deviations.iter().filter(|deviation| !deviation.is_within()).count();
    for deviation in &deviations {
        if session.out.json() {
            let Deviation { input, stage, relative, cosine, iou, tolerance } = deviation;
            session.out.line(&Line {
                r#type: "verification",
                model: &bundle.manifest().name,
                device: session.device.to_string(),
                input,
                stage,
                relative: relative.is_finite().then_some(*relative),
                cosine: *cosine,
                iou: *iou,
                tolerance: *tolerance,
                ok: deviation.is_within(),
            })?;
        } else {
            session.out.text(human(deviation))?;
        }
    }
    if missed == 0 {
        session.out.note(format!("{origin}: all {} outputs are what they were", deviations.len()));
        return Ok(Outcome::Done);
    }
    session.out.complain(&format!(
        "{origin}: {missed} of {} outputs are not what they were: this build or device computes another function; try --device cpu, or import the model again",
        deviations.len()
    ));
    Ok(Outcome::SomeBad)
}

fn human(deviation: &Deviation) -> String {
    let verdict = if deviation.is_within() { "ok    " } else { "MISSED" };
    let mut said = format!("{verdict} {:<12} {:<16}", deviation.input, deviation.stage);
    if let Some(cosine) = deviation.cosine {
        said.push_str(&format!(" cosine {cosine:.6}"));
    }
    if let Some(iou) = deviation.iou {
        said.push_str(&format!(" IoU {iou:.3}"));
    }
    match (deviation.tolerance, deviation.relative) {
        (_, infinite) if infinite.is_infinite() => said.push_str(" nothing to compare"),
        (0.0, 0.0) => said.push_str(" every id the same"),
        (0.0, _) => said.push_str(" ids differ"),
        (tolerance, relative) => said.push_str(&format!(" off by {relative:.1e} of {tolerance:.0e}")),
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_a_line() {
        let deviation =
            Deviation { input: "cat".into(), stage: "embedding".into(), relative: 2e-6, cosine: Some(1.0), iou: None, tolerance: 1e-4 };
        let said = human(&deviation);
        assert!(said.starts_with("ok") && said.contains("cosine 1.000000") && said.contains("2.0e-6 of 1e-4"), "{said}");
        let missed = Deviation { relative: f32::INFINITY, cosine: None, ..deviation };
        assert!(human(&missed).starts_with("MISSED"));
    }
}
