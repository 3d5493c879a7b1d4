//! Adapters beside a bundle: the option that commands share which take them.

use anyhow::Result;
use ocelli_convert::{Lora, lora};
use ocelli_flow::Model;

use crate::session::Session;

/// As typed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Loras {
    /// Adapter (LoRA, as PEFT writes it) to put on the model, at that scale; may be repeated
    #[arg(long, value_name = "DIR[:SCALE]")]
    lora: Vec<Lora>,
}

impl Loras {
    /// The model of `-m` with the adapters on.
    pub fn model(&self, session: &Session) -> Result<Box<dyn Model>> {
        let bundle = session.bundle()?;
        let mut model = session.load(&bundle)?;
        if !self.lora.is_empty() {
            model.set_adapter(Some(&lora::beside(&self.lora, bundle.manifest())?))?;
        }
        Ok(model)
    }
}
