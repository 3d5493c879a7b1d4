//! BLIP's equations.
//!
//! ```text
//! seen = norm(vision(pixels))                                 read = encoder(ids)          without a picture
//! caption = decoder(start, prompt | seen)                     answer = decoder(start | encoder(question | seen))
//! match = softmax(W_m · encoder(ids | seen)[class token])     cosine = cos(W_v · seen[class token], W_t · read[class token])
//! ```

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use super::{BlipConfig, Purpose};
use crate::blocks::{KeyValue, Linear, VisionTower};
use crate::linears;
use crate::text::TextTransformer;

/// All parts, of which each purpose has some.
#[derive(Module, Debug)]
pub struct Parts {
    /// Of pictures.
    pub vision: VisionTower,
    /// Of texts and questions.
    pub encoder: Option<TextTransformer>,
    /// Of captions and answers.
    pub decoder: Option<TextTransformer>,
    /// `[vision, joint]`
    pub vision_projection: Option<Linear>,
    /// `[d, joint]`
    pub text_projection: Option<Linear>,
    /// `[d, 2]`: no match, match.
    pub match_head: Option<Linear>,
}

linears!(Parts { vision, encoder, decoder, vision_projection, text_projection, match_head });

impl Parts {
    /// Those of a purpose, with random weights.
    pub fn init(config: &BlipConfig, device: &Device) -> Self {
        let joint = if let Purpose::Match(dim) = config.purpose { Some(dim) } else { None };
        Self {
            vision: VisionTower::init(&config.vision, device),
            encoder: config.encoder().map(|encoder| TextTransformer::init(&encoder, device)),
            decoder: config.decoder().map(|decoder| TextTransformer::init(decoder, device)),
            vision_projection: joint.map(|dim| Linear::init(config.vision.width, dim, device)),
            text_projection: joint.map(|dim| Linear::init(config.text.width, dim, device)),
            match_head: joint.map(|_| Linear::init(config.text.width, 2, device)),
        }
    }
}

/// The first token of a text or a picture: `[1, tokens, d]` → `[1, d]`.
pub fn class_token(x: Tensor<3>) -> Tensor<2> {
    let [_, _, d] = x.dims();
    x.narrow(1, 0, 1).reshape([1, d])
}

/// The probability of a match: `ids` of a text, keys and values of what was seen.
pub fn probability(encoder: &TextTransformer, head: &Linear, ids: &[u32], seen: &[Option<KeyValue>]) -> Tensor<1> {
    let logits = head.forward(class_token(encoder.encode(ids, seen)));
    softmax(logits, 1).narrow(1, 1, 1).reshape([1])
}
