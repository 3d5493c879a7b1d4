//! Known architectures with random weights: for measuring, and for comparing precisions.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_flow::ModelError;
use ocelli_ops::{GroupBits, OwnedGroups, OwnedInt8, Packed, PackedError};

use crate::blocks::{DecoderCache, Linears, Target, VisionConfig, VisionTower};
use crate::llama::{Decoder, DecoderConfig};
use crate::random::SplitMix;
use crate::smolvlm;
use crate::smolvlm::forward::Network;

/// How weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision.
    F32,
    /// int8: a scale an output channel in encoders, a scale for 32 input channels in decoders.
    #[default]
    Int8,
    /// int4 with a scale for 32 input channels; in decoders the token table, which is the output layer, too, stays int8.
    Int4,
}

/// What cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// No such name.
    #[error("architecture {name:?} is not known; there are {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// No such precision.
    #[error("precision {0:?} is not known; use f32, int8 or int4")]
    Precision(String),
    /// A shape without a tower, where pictures are to be read.
    #[error("the architecture reads no pictures")]
    Blind,
    /// A weight that cannot be packed.
    #[error(transparent)]
    Packed(#[from] PackedError),
}

impl FromStr for Precision {
    type Err = ArchitectureError;

    fn from_str(name: &str) -> Result<Self, ArchitectureError> {
        match name {
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4),
            _ => Err(ArchitectureError::Precision(name.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        })
    }
}

/// A shape that many models share.
#[derive(Debug, Clone, PartialEq)]
pub enum Architecture {
    /// Pictures to tokens or vectors.
    Vision(VisionConfig),
    /// Tokens to tokens.
    Decoder(DecoderConfig),
    /// Pictures and tokens to tokens.
    VisionLanguage(Box<smolvlm::Config>),
}

/// Every name, and its shape.
pub fn architectures() -> [(&'static str, Architecture); 6] {
    [
        ("clip-vit-b32", Architecture::Vision(VisionConfig::clip_base(32))),
        ("clip-vit-b16", Architecture::Vision(VisionConfig::clip_base(16))),
        ("siglip-b16-224", Architecture::Vision(VisionConfig::siglip_base())),
        ("owlvit-b32-768", Architecture::Vision(VisionConfig::owl_base())),
        ("smollm2-135m", Architecture::Decoder(DecoderConfig::smollm2_135m())),
        ("smolvlm-256m", Architecture::VisionLanguage(Box::new(smolvlm::Config::smolvlm_256m()))),
    ]
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(name: &str) -> Result<Self, ArchitectureError> {
        let found = architectures().into_iter().find(|(known, _)| *known == name);
        found
            .map(|(_, architecture)| architecture)
            .ok_or_else(|| ArchitectureError::Unknown { name: name.to_owned(), known: architectures().map(|(known, _)| known).join(", ") })
    }
}

/// Weights of N(0, 0.02), the same for the same seed whatever the precision.
struct Random<'a> {
    bits: SplitMix,
    precision: Precision,
    /// Whether int8 has a scale for 32 input channels, as in decoders.
    grouped: bool,
    device: &'a Device,
    /// Where the mapping of a module is.
    path: Vec<String>,
    /// Names of parameters that have a packed weight in their place.
    packed: BTreeSet<String>,
}

/// Standard deviation of random weights.
const DEVIATION: f32 = 0.02;

impl<'a> Random<'a> {
    fn new(seed: u64, precision: Precision, device: &'a Device) -> Self {
        Self { bits: SplitMix::new(seed), precision, grouped: false, device, path: Vec::new(), packed: BTreeSet::new() }
    }

    /// Two normal numbers at a time (Box and Muller 1958).
    fn normal(&mut self, len: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(len + 1);
        while out.len() < len {
            let bits = self.bits.bits();
            let unit = |bits: u64| ((bits & 0xff_ffff) as f32 + 0.5) / (1 << 24) as f32;
            let (radius, angle) = ((-2.0 * unit(bits).ln()).sqrt() * DEVIATION, std::f32::consts::TAU * unit(bits >> 32));
            out.extend([radius * angle.cos(), radius * angle.sin()]);
        }
        out.truncate(len);
        out
    }

    fn packed(&mut self, k: usize, n: usize, precision: Precision) -> Result<Packed, PackedError> {
        let weights = self.normal(n * k);
        match precision {
            Precision::F32 => Packed::from_floats(n, k, &weights, self.device),
            Precision::Int8 if !self.grouped => Packed::from_int8(OwnedInt8::quantize(n, k, &weights)?, self.device),
            Precision::Int8 => Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int8, &weights)?, self.device),
            Precision::Int4 => Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int4, &weights)?, self.device),
        }
    }
}

/// The other parameters: norms stay as they are.
impl ModuleMapper for Random<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        if self.packed.contains(&name) || name.ends_with("gamma") || name.ends_with("beta") {
            return param;
        }
        let shape = param.lazy_shape().to_vec();
        let values = self.normal(shape.iter().product());
        Param::initialized(param.id, Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}

/// A module's weights replaced by random ones, packed where they can be.
fn filled<M: Module + Linears>(mut module: M, random: &mut Random<'_>) -> Result<M, PackedError> {
    let mut failed = None;
    module.linears("", &mut |slot| {
        let [k, n] = [slot.shape[0], slot.shape[1]];
        let packed = match slot.target {
            Target::Linear(place, _) => random.packed(k, n, random.precision).map(|weight| *place = Some(weight)),
            // A row an output channel. In a decoder it is the table of tokens, which stays int8.
            Target::Rows(place) => {
                let table = if random.grouped && random.precision == Precision::Int4 { Precision::Int8 } else { random.precision };
                random.packed(n, k, table).map(|weight| *place = Some(weight))
            }
            Target::Int8Rows(_) | Target::ExactRows(..) | Target::Depthwise(_) => return,
        };
        random.packed.insert(slot.name.trim_start_matches('.').to_owned());
        failed = failed.take().or(packed.err());
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(module.map(random)),
    }
}

impl VisionTower {
    /// A tower with random weights in a precision.
    ///
    /// # Errors
    /// Where a weight cannot be packed in that precision.
    pub fn random(config: &VisionConfig, precision: Precision, seed: u64, device: &Device) -> Result<Self, ArchitectureError> {
        Ok(filled(Self::init(config, device), &mut Random::new(seed, precision, device))?)
    }
}

impl Decoder {
    /// A decoder with random weights in a precision.
    ///
    /// # Errors
    /// Where a weight cannot be packed in that precision.
    pub fn random(config: &DecoderConfig, precision: Precision, seed: u64, device: &Device) -> Result<Self, ArchitectureError> {
        Ok(filled(Self::init(config, device), &mut Random { grouped: true, ..Random::new(seed, precision, device) })?)
    }
}

/// A tower with random weights, and a picture.
#[derive(Debug)]
pub struct VisionSample {
    tower: VisionTower,
    picture: Tensor<4>,
}

impl VisionSample {
    /// Of an architecture's shape; the picture is noise.
    ///
    /// # Errors
    /// Where a weight cannot be packed in that precision.
    pub fn new(config: &VisionConfig, precision: Precision, seed: u64, device: &Device) -> Result<Self, ArchitectureError> {
        let tower = VisionTower::random(config, precision, seed, device)?;
        let shape = [1, 3, config.side, config.side];
        let noise = Random::new(!seed, precision, device).normal(shape.iter().product());
        let picture = Tensor::<4>::from_data(TensorData::new(noise, shape), device).div_scalar(DEVIATION);
        Ok(Self { tower, picture })
    }

    /// What the tower says of the picture: its vector, or its tokens where it has none.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn encode(&self) -> Result<Vec<f32>, ModelError> {
        let seen = self.tower.forward(self.picture.clone());
        let data = seen.embedding.map_or_else(|| seen.tokens.into_data(), Tensor::into_data);
        data.try_into_vec().map_err(|error| ModelError::Compute { stage: "image_encode", reason: error.to_string() })
    }
}

/// A decoder with random weights, and what it has read.
#[derive(Debug)]
pub struct DecoderSample {
    decoder: Decoder,
    cache: DecoderCache,
    device: Device,
}

impl DecoderSample {
    /// Of an architecture's shape.
    ///
    /// # Errors
    /// Where a weight cannot be packed in that precision.
    pub fn new(config: &DecoderConfig, precision: Precision, seed: u64, device: &Device) -> Result<Self, ArchitectureError> {
        let decoder = Decoder::random(config, precision, seed, device)?;
        let cache = decoder.cache(1, config.context, device);
        Ok(Self { decoder, cache, device: device.clone() })
    }

    /// Reads tokens and gives the logits of the next.
    ///
    /// # Errors
    /// Where an id is beyond the vocabulary, or there is no room for so many tokens.
    pub fn read(&mut self, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.decoder.read(ids, &mut self.cache, &self.device)
    }

    /// Forgets all but the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        self.cache.truncate(tokens);
    }
}

/// A vision-language model with random weights, and a tile of a picture.
#[derive(Debug)]
pub struct VisionLanguageSample {
    network: Network,
    tile: Tensor<4>,
    shuffle: usize,
    cache: DecoderCache,
    device: Device,
}

impl VisionLanguageSample {
    /// Of an architecture's shape; the tile is noise, and there is room for `context` tokens.
    ///
    /// # Errors
    /// Where a weight cannot be packed in that precision, or the architecture reads no pictures.
    pub fn new(
        config: &smolvlm::Config,
        context: usize,
        precision: Precision,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ArchitectureError> {
        let Some(vision) = &config.vision else { return Err(ArchitectureError::Blind) };
        let Network { vision: tower, connector, text } = Network::init(config, device);
        // The picture's half stays int8 where the text's is int4.
        let seeing = if precision == Precision::Int4 { Precision::Int8 } else { precision };
        let mut random = Random::new(seed, seeing, device);
        let tower = tower.map(|tower| filled(tower, &mut random)).transpose()?;
        let connector = connector.map(|connector| filled(connector, &mut random)).transpose()?;
        let text = filled(text, &mut Random { grouped: true, ..Random::new(!seed, precision, device) })?;
        let shape = [1, 3, vision.tile, vision.tile];
        let noise = Random::new(seed + 1, precision, device).normal(shape.iter().product());
        let tile = Tensor::<4>::from_data(TensorData::new(noise, shape), device).div_scalar(DEVIATION);
        let cache = text.cache(1, context, device);
        Ok(Self { network: Network { vision: tower, connector, text }, tile, shuffle: vision.shuffle, cache, device: device.clone() })
    }

    /// What the tower makes of the tile: `[tokens, d]`.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn see(&self) -> Result<Tensor<2>, ModelError> {
        let seen = self.network.see(self.tile.clone(), self.shuffle).ok_or(ModelError::Unsupported { what: "read pictures" })?;
        // A device that works ahead is waited for.
        let _ = seen.clone().narrow(0, 0, 1).into_data();
        Ok(seen)
    }

    /// Reads a picture's vectors and tokens after them, from the beginning: the logits of the next.
    ///
    /// # Errors
    /// Where an id is beyond the vocabulary, or there is no room for so many.
    pub fn read(&mut self, seen: Tensor<2>, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.cache.truncate(0);
        let text = &self.network.text;
        let x = Tensor::cat(vec![seen.unsqueeze::<3>(), text.embed(ids, &self.device)?], 1);
        text.last_logits(text.forward(x, &mut self.cache)?)
    }

    /// Reads one more token: the logits of the next.
    ///
    /// # Errors
    /// Where an id is beyond the vocabulary, or there is no room for one more.
    pub fn next(&mut self, id: u32) -> Result<Vec<f32>, ModelError> {
        self.network.text.read(&[id], &mut self.cache, &self.device)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn cosine(a: Tensor<2>, b: Tensor<2>) -> f32 {
        let dot = |a: &Tensor<2>, b: &Tensor<2>| (a.clone() * b.clone()).sum().into_scalar::<f32>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    }

    /// The least cosine among the rows of what two towers say.
    fn least(a: &VisionTower, b: &VisionTower, picture: &Tensor<4>) -> f32 {
        let rows = |tower: &VisionTower| {
            let seen = tower.forward(picture.clone());
            let [batch, tokens, d] = seen.tokens.dims();
            seen.embedding.unwrap_or_else(|| seen.tokens.reshape([batch * tokens, d]))
        };
        let (a, b) = (rows(a), rows(b));
        (0..a.dims()[0]).map(|i| cosine(a.clone().narrow(0, i, 1), b.clone().narrow(0, i, 1))).fold(1.0, f32::min)
    }

    #[test]
    fn int8_says_what_f32_says() {
        let device = Device::flex();
        for (name, architecture) in architectures() {
            let Architecture::Vision(config) = architecture else { continue };
            let picture = Tensor::random([1, 3, config.side, config.side], Distribution::Normal(0.0, 1.0), &device);
            let exact = VisionTower::random(&config, Precision::F32, 1, &device).unwrap();
            let int8 = VisionTower::random(&config, Precision::Int8, 1, &device).unwrap();
            let cosine = least(&exact, &int8, &picture);
            assert!(cosine >= 0.999, "{name}: {cosine}");
        }
    }

    #[test]
    fn a_decoder_says_the_same_at_once_and_token_by_token() {
        let device = Device::flex();
        let config = DecoderConfig { vocabulary: 100, layers: 3, context: 20, ..DecoderConfig::smollm2_135m() };
        let ids = [5, 99, 0, 17, 17, 3];
        for precision in [Precision::F32, Precision::Int8, Precision::Int4] {
            let decoder = Decoder::random(&config, precision, 2, &device).unwrap();
            let mut cache = decoder.cache(1, 20, &device);
            let at_once = decoder.read(&ids, &mut cache, &device).unwrap();
            let mut cache = decoder.cache(1, 20, &device);
            let one_by_one = ids.map(|id| decoder.read(&[id], &mut cache, &device).unwrap()).into_iter().next_back().unwrap();
            let difference = at_once.iter().zip(&one_by_one).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let greatest = at_once.iter().map(|x| x.abs()).fold(0.0, f32::max);
            // Rows are rounded to bytes each by itself: only the order of sums differs, and what it pushes over a byte's middle.
            assert!(difference <= 0.02 * greatest, "{precision}: {difference} of {greatest}");
            assert!(decoder.read(&[100], &mut cache, &device).is_err());
            assert!(decoder.read(&[1; 15], &mut cache, &device).is_err());
        }
    }

    #[test]
    fn names_are_known() {
        for (name, architecture) in architectures() {
            assert_eq!(name.parse(), Ok(architecture));
        }
        assert!("resnet".parse::<Architecture>().unwrap_err().to_string().contains("clip-vit-b32"));
    }
}
