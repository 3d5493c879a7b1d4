//! Every family's table lists what its module has, no more and no less.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use super::Row;
use crate::blip::{BlipConfig, Parts};
use crate::encoder_decoder::{EncoderDecoder, EncoderDecoderConfig};
use crate::florence::FlorenceConfig;
use crate::florence::forward::Florence;
use crate::joint::JointConfig;
use crate::joint::model::Towers;
use crate::owl::OwlConfig;
use crate::owl::forward::Detector;
use crate::plan::{Declared, Format, Plan, PlanError, TokenizerFacts};
use crate::registry;

#[derive(Default)]
struct Parameters {
    path: Vec<String>,
    found: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.join("."), param.lazy_shape().to_vec()));
    }
}

fn parameters(module: &impl Module) -> Vec<(String, Vec<usize>)> {
    let mut parameters = Parameters::default();
    module.visit(&mut parameters);
    parameters.found.sort();
    parameters.found
}

fn listed(rows: &[Row]) -> Vec<(String, Vec<usize>)> {
    let mut listed: Vec<_> = rows.iter().map(|row| (row.name.clone(), row.shape.clone())).collect();
    listed.sort();
    listed
}

fn planned(config: &Value, format: Format) -> Result<Plan, PlanError> {
    registry::plan(&Declared {
        tokens: Some(TokenizerFacts { attention_mask: true, ..Default::default() }),
        ..Declared::new(config, format)
    })
}

fn towers() -> Value {
    json!({
        "text_config": {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99},
        "vision_config": {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 50, "patch_size": 16},
        "projection_dim": 8,
    })
}

/// `fields` put into `config`, below `part` where that is named.
fn with(mut config: Value, part: Option<&str>, fields: Value) -> Value {
    let object = match part {
        Some(part) => &mut config[part],
        None => &mut config,
    };
    for (key, value) in fields.as_object().unwrap() {
        object[key] = value.clone();
    }
    config
}

/// Florence-2 in transformers' form, or in Microsoft's.
fn florence(microsoft: bool) -> Value {
    let widths = if microsoft { "dim_embed" } else { "embed_dim" };
    let vision = json!({
        widths: [8, 12], "depths": [1, 2], "num_heads": [2, 3], "num_groups": [4, 2], "window_size": 4, "projection_dim": 16,
        "patch_size": [7, 3], "patch_stride": [8, 8], "patch_padding": [3, 1], "patch_prenorm": [false, true],
    });
    let sizes = json!({"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24, "decoder_ffn_dim": 20, "max_position_embeddings": 256});
    let text = with(sizes, None, json!({"d_model": 16, "vocab_size": 99}));
    with(class("Florence2ForConditionalGeneration"), None, json!({"vision_config": vision, "text_config": text}))
}

fn class(name: &str) -> Value {
    json!({ "architectures": [name] })
}

#[test]
fn tables_list_what_modules_have() {
    let device = Device::flex();
    let siglip = with(towers(), Some("text_config"), json!({"hidden_size": 24}));
    let open_clip = json!({"model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 99, "width": 48, "heads": 3, "layers": 2},
    }});
    let joint = [
        (with(towers(), None, class("CLIPModel")), Format::Transformers),
        (with(towers()["vision_config"].clone(), None, class("CLIPVisionModelWithProjection")), Format::Transformers),
        (with(towers()["text_config"].clone(), None, class("CLIPTextModelWithProjection")), Format::Transformers),
        (with(siglip.clone(), None, class("SiglipModel")), Format::Transformers),
        (with(siglip, None, class("Siglip2Model")), Format::Transformers),
        (open_clip, Format::OpenClip),
    ];
    for (config, format) in joint {
        let plan = planned(&config, format).unwrap_or_else(|error| panic!("{error}: {config}"));
        let own = JointConfig::from_json(&plan.config).unwrap();
        assert_eq!(listed(&plan.rows), parameters(&Towers::init(&own, &device)), "{config}");
    }
    for name in ["OwlViTForObjectDetection", "Owlv2ForObjectDetection"] {
        let config = with(with(towers(), None, class(name)), None, json!({"projection_dim": 16}));
        let plan = planned(&config, Format::Transformers).unwrap();
        let own = OwlConfig::from_json(&plan.config).unwrap();
        assert_eq!(own.second, name.starts_with("Owlv2"));
        assert_eq!(listed(&plan.rows), parameters(&Detector::init(&own, &device)), "{name}");
    }
    for microsoft in [false, true] {
        let plan = planned(&florence(microsoft), Format::Transformers).unwrap();
        let own = FlorenceConfig::from_json(&plan.config).unwrap();
        assert_eq!(listed(&plan.rows), parameters(&Florence::init(&own, &device)), "Florence-2, Microsoft's form: {microsoft}");
    }
}

/// `VisionEncoderDecoderModel` of two parts.
fn reader(encoder: Value, decoder: Value) -> Value {
    let small = |config: Value, more: Value| with(with(config, None, more), None, json!({"hidden_size": 24, "num_hidden_layers": 2}));
    let encoder = small(encoder, json!({"intermediate_size": 40, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}));
    let sizes =
        json!({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20, "d_model": 16, "decoder_layers": 2, "decoder_ffn_dim": 40});
    let decoder = with(with(decoder, None, sizes), None, json!({"vocab_size": 99, "decoder_attention_heads": 2}));
    with(
        class("VisionEncoderDecoderModel"),
        None,
        json!({"encoder": encoder, "decoder": decoder, "decoder_start_token_id": 2, "eos_token_id": 2}),
    )
}

fn readers() -> Vec<Value> {
    let (vit, deit) = (json!({"model_type": "vit"}), json!({"model_type": "deit", "qkv_bias": false}));
    let stage1 = json!({
        "model_type": "trocr", "use_learned_position_embeddings": false, "layernorm_embedding": false, "scale_embedding": true,
        "tie_word_embeddings": false,
    });
    vec![
        reader(vit.clone(), json!({"model_type": "gpt2"})),
        reader(deit.clone(), json!({"model_type": "gpt2", "tie_word_embeddings": false, "n_inner": 24})),
        reader(deit, json!({"model_type": "trocr", "cross_attention_hidden_size": 24})),
        reader(vit, stage1),
    ]
}

fn blips() -> Vec<Value> {
    let sizes = json!({"text_config": {"vocab_size": 99, "bos_token_id": 97, "hidden_size": 24}});
    let config = with(with(towers(), None, json!({"image_text_hidden_size": 12})), Some("text_config"), sizes["text_config"].clone());
    let classes = ["BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering"];
    let mut all: Vec<Value> = classes.map(|name| with(config.clone(), None, class(name))).to_vec();
    all.push(with(all[0].clone(), Some("text_config"), json!({"tie_word_embeddings": false})));
    all
}

#[test]
fn tables_of_models_that_write_list_what_modules_have() {
    let device = Device::flex();
    for config in readers() {
        let plan = planned(&config, Format::Transformers).unwrap_or_else(|error| panic!("{error}: {config}"));
        let own = EncoderDecoderConfig::from_json(&plan.config).unwrap();
        assert_eq!(listed(&plan.rows), parameters(&EncoderDecoder::init(&own, &device)), "{config}");
    }
    for config in blips() {
        let plan = planned(&config, Format::Transformers).unwrap_or_else(|error| panic!("{error}: {config}"));
        let own = BlipConfig::from_json(&plan.config).unwrap();
        assert_eq!(listed(&plan.rows), parameters(&Parts::init(&own, &device)), "{config}");
    }
}

#[test]
fn parts_that_are_not_read_are_named() {
    let refused = |config: Value| planned(&config, Format::Transformers).unwrap_err().to_string();
    let error = refused(reader(json!({"model_type": "vit"}), json!({"model_type": "bert"})));
    assert!(error.contains("decoder.model_type") && error.contains("bert") && error.contains("gpt2") && error.contains("trocr"), "{error}");
    let error = refused(reader(json!({"model_type": "swin"}), json!({"model_type": "gpt2"})));
    assert!(error.contains("encoder.model_type") && error.contains("swin") && error.contains("deit"), "{error}");
    let error = refused(reader(json!({"model_type": "vit"}), json!({"model_type": "trocr", "cross_attention_hidden_size": 25})));
    assert!(error.contains("cross_attention_hidden_size"), "{error}");
    let error = refused(with(blips()[2].clone(), Some("text_config"), json!({"hidden_size": 16})));
    assert!(error.contains("questions"), "{error}");
    let error = refused(with(blips()[0].clone(), Some("text_config"), json!({"bos_token_id": 99})));
    assert!(error.contains("token 99"), "{error}");
}

#[test]
fn pieces_hold_as_many_values_as_their_row() {
    for name in ["CLIPModel", "Siglip2Model", "Owlv2ForObjectDetection"] {
        let config = with(with(towers(), None, class(name)), Some("text_config"), json!({"hidden_size": 24}));
        let config = with(config, None, json!({"projection_dim": 24}));
        assert_pieces(&config);
    }
    readers().iter().chain(&blips()).for_each(assert_pieces);
    [false, true].iter().for_each(|&microsoft| assert_pieces(&florence(microsoft)));
}

fn assert_pieces(config: &Value) {
    for row in planned(config, Format::Transformers).unwrap().rows {
        let values = |piece: &super::Piece| {
            let all: usize = piece.shape.iter().product();
            piece.rows.as_ref().map_or(all, |rows| rows.len() * all / piece.shape[0])
        };
        let held: usize = row.pieces.iter().map(values).sum();
        assert_eq!(held, row.shape.iter().product::<usize>(), "{config}: {row:?}");
    }
}

#[test]
fn what_cannot_be_imported_is_named() {
    let refused = |config: Value| planned(&config, Format::Transformers).unwrap_err().to_string();
    let clip = || with(towers(), None, class("CLIPModel"));
    assert!(refused(class("BertModel")).contains("BertModel") && refused(class("BertModel")).contains("SiglipModel"));
    for (config, named) in [
        (with(clip(), Some("vision_config"), json!({"num_attention_heads": 5})), "heads"),
        (with(clip(), Some("vision_config"), json!({"hidden_act": "sine"})), "vision_config.hidden_act"),
        (with(clip(), Some("text_config"), json!({"hidden_size": 1u64 << 60})), "width"),
        (with(clip(), Some("text_config"), json!({"vocab_size": "many"})), "text_config.vocab_size"),
        (with(clip(), Some("vision_config"), json!({"num_channels": 1})), "num_channels"),
        (with(with(towers(), None, class("SiglipModel")), Some("vision_config"), json!({"vision_use_head": false})), "vision_use_head"),
        (with(florence(false), Some("vision_config"), json!({"num_heads": [2]})), "vision_config.num_heads"),
        (with(florence(false), Some("vision_config"), json!({"projection_dim": 8})), "vision_config.projection_dim"),
        (with(florence(false), Some("vision_config"), json!({"window_size": 0})), "window"),
        (with(florence(false), Some("text_config"), json!({"max_position_embeddings": 40})), "no room"),
        (with(florence(true), Some("vision_config"), json!({"image_feature_source": ["last_frame"]})), "image_feature_source"),
        (with(florence(false), None, json!({"tie_word_embeddings": false})), "tie_word_embeddings"),
    ] {
        let error = refused(config);
        assert!(error.contains(named), "{named}: {error}");
    }
}
