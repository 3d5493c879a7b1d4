//! Reading the descriptions of processors, in the forms they have had over the years.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use ocelli_preprocess::{Centre, Filter, Normalise, Processor, Recipe, RecipeError, Resize, Size};
use serde_json::{Value, json};

fn shortest(edge: u32) -> Option<Resize> {
    Some(Resize::ShortestEdge { edge, longest: None })
}

fn squash(side: u32) -> Option<Resize> {
    Some(Resize::Squash(Size::square(side)))
}

fn read(class: &str, mut fields: Value) -> Result<Recipe, RecipeError> {
    fields["image_processor_type"] = json!(class);
    Recipe::from_processor(&fields)
}

#[test]
fn what_is_not_said_is_as_the_class_has_it() {
    let half = Some(Normalise { mean: [0.5; 3], std: [0.5; 3] });
    let clip = Some(Normalise { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.2613026, 0.2757771] });
    let patches = Some(Resize::Patches { patch: 16, max_patches: 256 });
    for (class, resize, filter, crop, normalise) in [
        ("CLIPImageProcessor", shortest(224), Filter::Bicubic, Some(Size::square(224)), clip),
        ("CLIPImageProcessorFast", shortest(224), Filter::Bicubic, Some(Size::square(224)), clip),
        ("CLIPFeatureExtractor", shortest(224), Filter::Bicubic, Some(Size::square(224)), clip),
        ("SiglipImageProcessor", squash(224), Filter::Bicubic, None, half),
        ("Siglip2ImageProcessorFast", patches, Filter::Bilinear, None, half),
        ("OwlViTFeatureExtractor", squash(768), Filter::Bicubic, None, clip),
        ("ViTFeatureExtractor", squash(224), Filter::Bilinear, None, half),
        ("DeiTImageProcessor", squash(256), Filter::Bicubic, Some(Size::square(224)), half),
        ("BlipImageProcessor", squash(384), Filter::Bicubic, None, clip),
        ("Owlv2ImageProcessor", Some(Resize::PadSquare(Size::square(960))), Filter::Bilinear, None, clip),
    ] {
        let wanted = Recipe { resize, filter, crop, centre: Centre::Down, rescale: Some(1.0 / 255.0), normalise };
        assert_eq!(read(class, json!({})).as_ref(), Ok(&wanted), "{class}");
        let written = serde_json::to_string(&wanted).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&written).unwrap(), wanted, "{written}");
    }
}

#[test]
fn sizes_have_had_many_forms() {
    let resize = |class: &str, size: Value| read(class, json!({ "size": size })).unwrap().resize;
    assert_eq!(resize("CLIPImageProcessor", json!(336)), shortest(336));
    assert_eq!(resize("CLIPImageProcessor", json!({ "shortest_edge": 336 })), shortest(336));
    assert_eq!(resize("CLIPImageProcessor", json!({ "shortest_edge": 336, "longest_edge": null, "height": null })), shortest(336));
    let both = Some(Resize::ShortestEdge { edge: 336, longest: Some(600) });
    assert_eq!(resize("CLIPImageProcessor", json!({ "shortest_edge": 336, "longest_edge": 600 })), both);
    assert_eq!(resize("CLIPImageProcessor", json!({ "height": 336, "width": 336 })), squash(336));
    assert_eq!(resize("SiglipImageProcessor", json!(384)), shortest(384));
    assert_eq!(resize("OwlViTImageProcessor", json!(768)), squash(768));
    assert_eq!(resize("DeiTFeatureExtractor", json!(384)), squash(384));
    assert_eq!(resize("OwlViTImageProcessor", json!([768, 512])), Some(Resize::Squash(Size { height: 768, width: 512 })));
    let crop = |size: Value| read("CLIPImageProcessor", json!({ "crop_size": size })).unwrap().crop;
    assert_eq!(crop(json!(200)), Some(Size::square(200)));
    assert_eq!(crop(json!({ "height": 200, "width": 100 })), Some(Size { height: 200, width: 100 }));
    assert_eq!(read("CLIPImageProcessor", json!({ "do_center_crop": false })).unwrap().crop, None);
    assert_eq!(read("CLIPImageProcessor", json!({ "do_resize": false })).unwrap().resize, None);
    assert_eq!(read("CLIPImageProcessor", json!({ "use_square_size": true })).unwrap().resize, squash(224));
    assert_eq!(read("OwlViTImageProcessor", json!({ "rescale": false })).unwrap().rescale, None);
}

#[test]
fn a_whole_processor_and_old_names_are_read() {
    let inner = json!({ "image_processor_type": "SiglipImageProcessor", "resample": 2 });
    let whole = Recipe::from_processor(&json!({ "processor_class": "SiglipProcessor", "image_processor": inner })).unwrap();
    assert_eq!((whole.resize, whole.filter), (squash(224), Filter::Bilinear));
    let old = Recipe::from_processor(&json!({ "feature_extractor_type": "CLIPFeatureExtractor", "size": 224 })).unwrap();
    assert_eq!(old.resize, shortest(224));
}

#[test]
fn what_cannot_be_followed_is_said() {
    for (class, fields, wanted) in [
        (
            "SamImageProcessor",
            json!({}),
            r#"image processor "SamImageProcessor" is not known; known are CLIPImageProcessor, SiglipImageProcessor"#,
        ),
        ("CLIPImageProcessor", json!({ "resample": 4 }), "resample is 4: 0 (nearest)"),
        ("CLIPImageProcessor", json!({ "size": { "longest_edge": 4 } }), r#"size is {"longest_edge":4}: "#),
        ("CLIPImageProcessor", json!({ "size": -1 }), "size is -1: "),
        ("CLIPImageProcessor", json!({ "size": 4097 }), "resize.edge is 4097: 1 to 4096 pixels"),
        ("CLIPImageProcessor", json!({ "crop_size": { "shortest_edge": 4 } }), "crop_size is "),
        ("CLIPImageProcessor", json!({ "crop_size": 0 }), "crop is 0: "),
        ("CLIPImageProcessor", json!({ "image_mean": [0.5, 0.5] }), "image_mean is [0.5,0.5]: three numbers"),
        ("CLIPImageProcessor", json!({ "image_std": [0.5, 0.5, 0.0] }), "normalise.std is "),
        ("CLIPImageProcessor", json!({ "rescale_factor": 0 }), "rescale is 0: "),
        ("CLIPImageProcessor", json!({ "do_resize": "yes" }), r#"do_resize is "yes": it has to be true or false"#),
        ("CLIPImageProcessor", json!({ "do_pad": true }), "do_pad is true: "),
        ("SiglipImageProcessor", json!({ "do_center_crop": true }), "crop_size is missing: "),
        ("Siglip2ImageProcessor", json!({ "max_num_patches": 1_000_000 }), "resize.max_patches is 1000000: 1 to 65536 patches of 16 x 16"),
        ("Siglip2ImageProcessor", json!({ "patch_size": 0 }), "resize.patch is 0: "),
        ("Owlv2ImageProcessor", json!({ "do_rescale": false }), "rescale is missing: "),
        ("Owlv2ImageProcessor", json!({ "do_pad": false }), "do_pad is false: "),
        ("Owlv2ImageProcessor", json!({ "size": { "shortest_edge": 960 } }), "size is "),
    ] {
        let error = read(class, fields).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}\nis not\n{wanted}");
    }
    for config in [json!(null), json!([]), json!({}), json!({ "image_processor_type": 3 })] {
        assert!(matches!(Recipe::from_processor(&config), Err(RecipeError::Class { .. })), "{config}");
    }
}

#[test]
fn a_recipe_from_a_bundle_is_not_trusted() {
    let sound = read("CLIPImageProcessor", json!({})).unwrap();
    let mut recipe = sound.clone();
    recipe.resize = Some(Resize::Squash(Size { height: 1, width: u32::MAX }));
    assert!(Processor::new(recipe).is_err());
    let mut recipe = sound.clone();
    recipe.rescale = Some(f64::NAN);
    assert!(Processor::new(recipe).is_err());
    let mut recipe = sound.clone();
    recipe.resize = Some(Resize::Patches { patch: 16, max_patches: 256 });
    assert!(Processor::new(recipe).unwrap_err().to_string().starts_with("crop is 224 x 224: "));
    assert!(serde_json::from_value::<Recipe>(json!({ "resize": null, "sharpen": 3 })).is_err());
}

#[test]
fn open_clip_is_read() {
    let clip = Recipe::open_clip(&Value::Null, Size::square(224)).unwrap();
    assert_eq!((clip.resize, clip.crop, clip.filter, clip.centre), (shortest(224), Some(Size::square(224)), Filter::Bicubic, Centre::Even));
    let fields = json!({ "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash" });
    let siglip = Recipe::open_clip(&fields, Size { height: 256, width: 128 }).unwrap();
    assert_eq!((siglip.resize, siglip.crop), (Some(Resize::Squash(Size { height: 256, width: 128 })), None));
    assert_eq!((siglip.filter, siglip.normalise), (Filter::Bilinear, Some(Normalise { mean: [0.5; 3], std: [0.5; 3] })));
    for (fields, wanted) in [
        (json!({ "resize_mode": "longest" }), "resize_mode is longest: "),
        (json!({ "size": [3, 4] }), "resize_mode is shortest: "),
        (json!({ "interpolation": "box" }), "interpolation is box: "),
        (json!({ "size": "large" }), r#"size is "large": "#),
        (json!({ "mean": "grey" }), r#"mean is "grey": "#),
    ] {
        let error = Recipe::open_clip(&fields, Size::square(224)).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}\nis not\n{wanted}");
    }
}
