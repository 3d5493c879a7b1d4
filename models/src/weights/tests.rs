use burn::tensor::Distribution;
use ocelli_bundle::{BundleWriter, Manifest};

use super::*;

const INPUT: usize = 64;
const OUTPUT: usize = 40;

fn writer() -> BundleWriter {
    BundleWriter::new(Manifest::new("test", "test"))
}

fn sealed(writer: BundleWriter) -> Bundle {
    Bundle::from_bytes(writer.into_bytes().unwrap().into()).unwrap()
}

fn layer(device: &Device) -> crate::blocks::Linear {
    crate::blocks::Linear::init(INPUT, OUTPUT, device)
}

fn stored(layer: &crate::blocks::Linear, recipe: Recipe) -> Bundle {
    let mut writer = writer();
    store(layer, "part", &mut writer, &|name, _| if name.ends_with("weight") { recipe } else { Recipe::F32 }).unwrap();
    sealed(writer)
}

#[test]
fn packed_layers_compute_what_their_floats_do() {
    let device = Device::flex();
    let original = layer(&device);
    let x = Tensor::<2>::random([5, INPUT], Distribution::Normal(0.0, 1.0), &device);
    let recipes = [
        Recipe::F32,
        Recipe::F16,
        Recipe::F32Packed { transposed: true },
        Recipe::F16Packed { transposed: true },
        Recipe::Int8 { transposed: true },
        Recipe::Int8Packed { transposed: true },
        Recipe::Int8GroupsPacked { transposed: true },
        Recipe::Int4 { transposed: true },
        Recipe::Int4Packed { transposed: true },
    ];
    for recipe in recipes {
        let bundle = stored(&original, recipe);
        let running = open(layer(&device), "part", &bundle, &device).unwrap();
        let floats = load(layer(&device), "part", &bundle, &device).unwrap();
        assert!(running.is_packed() && !floats.is_packed());
        let (y, e) = (running.forward(x.clone()), floats.forward(x.clone()));
        let difference = (y - e.clone()).abs().max().into_scalar::<f32>();
        // Activations of at most 4 σ are off by at most half a step of 4 / 127 each, at random; weights are within ±1/8.
        let tolerance = if running.is_quantized() { 4.0 / 127.0 / 2.0 / 8.0 * (INPUT as f32).sqrt() } else { 1e-5 };
        assert!(difference <= tolerance, "{recipe:?}: {difference}");
    }
}

#[test]
fn the_order_of_storage_changes_no_value() {
    let device = Device::flex();
    let original = layer(&device);
    for (plain, packed) in [
        (Recipe::F32, Recipe::F32Packed { transposed: true }),
        (Recipe::F16, Recipe::F16Packed { transposed: true }),
        (Recipe::Int8 { transposed: true }, Recipe::Int8Packed { transposed: true }),
        (Recipe::Int4 { transposed: true }, Recipe::Int4Packed { transposed: true }),
    ] {
        let values = |recipe| {
            let bundle = stored(&original, recipe);
            load(layer(&device), "part", &bundle, &device).unwrap().weight.val().into_data()
        };
        values(plain).assert_eq(&values(packed), true);
    }
}

#[test]
fn integers_of_others_are_kept_as_they_are() {
    let device = Device::flex();
    for (bits, range) in [(GroupBits::Int8, 255), (GroupBits::Int4, 16)] {
        // Every group has the greatest value, as groups of GGUF do.
        let value = |i: usize| if i.is_multiple_of(GROUP) { (range - 1) / 2 } else { i as i32 * 31 % range - range / 2 };
        let values: Vec<i8> = (0..OUTPUT * INPUT).map(|i| value(i) as i8).collect();
        let scales: Vec<f16> = (0..OUTPUT * INPUT / GROUP).map(|i| f16::from_f32(0.25 + i as f32 / 64.0)).collect();
        let mut writer = writer();
        for part in encode_groups("part.weight", &[OUTPUT, INPUT], &values, &scales, bits).unwrap() {
            writer.tensor(&part.name, part.dtype, &part.shape, part.bytes).unwrap();
        }
        writer.f32("part.bias", &[OUTPUT], &[0.0; OUTPUT]).unwrap();
        let recipe = Recipe::groups(bits, true);
        writer.manifest_mut().quantization.insert("part.weight".to_owned(), recipe.name().unwrap().to_owned());
        let bundle = sealed(writer);
        check(&bundle, "part.weight", &[INPUT, OUTPUT]).unwrap();
        let wanted = |row: usize, column: usize| f32::from(values[row * INPUT + column]) * scales[(row * INPUT + column) / GROUP].to_f32();
        let rows = super::values(&bundle, "part.weight", &[INPUT, OUTPUT], true).unwrap();
        let columns = super::values(&bundle, "part.weight", &[INPUT, OUTPUT], false).unwrap();
        for at in 0..OUTPUT * INPUT {
            assert_eq!(rows[at], wanted(at / INPUT, at % INPUT));
            assert_eq!(columns[at], wanted(at % OUTPUT, at / OUTPUT));
        }
        let running = open(layer(&device), "part", &bundle, &device).unwrap();
        assert!(running.is_quantized());
        // Quantizing what came from such groups of eight bits gives the same bytes.
        if bits == GroupBits::Int8 {
            let again = encode("part.weight", &[OUTPUT, INPUT], &rows, recipe).unwrap();
            let back = |part: &Part| bundle.tensor(&part.name).unwrap().bytes == part.bytes;
            assert!(again.iter().all(back));
        }
    }
    assert!(encode_groups("w", &[2, 40], &[0; 80], &[f16::ONE; 2], GroupBits::Int8).is_err());
}

/// The error of opening a bundle whose weight is made by `weight`.
fn refused(recipe: &str, weight: impl FnOnce(&mut BundleWriter)) -> String {
    let device = Device::flex();
    let mut writer = writer();
    weight(&mut writer);
    writer.f32("part.bias", &[OUTPUT], &[0.0; OUTPUT]).unwrap();
    writer.manifest_mut().quantization.insert("part.weight".to_owned(), recipe.to_owned());
    open(layer(&device), "part", &sealed(writer), &device).unwrap_err().to_string()
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let shape = [OUTPUT.div_ceil(16), INPUT / 4, 16, 4];
    let values = vec![0_i8; shape.iter().product()];
    let rows = shape[0] * 16;
    let complete = |writer: &mut BundleWriter| {
        writer.i8("part.weight", &shape, &values).unwrap();
        writer.f32("part.weight.scale", &[rows], &vec![1.0; rows]).unwrap();
    };
    let cases = [
        ("no sums", refused("int8.t.p", complete), "part.weight.sum"),
        (
            "sums of another length",
            refused("int8.t.p", |writer| {
                complete(writer);
                writer.i32("part.weight.sum", &[3], &[0; 3]).unwrap();
            }),
            "part.weight",
        ),
        (
            "sums of another type",
            refused("int8.t.p", |writer| {
                complete(writer);
                writer.f32("part.weight.sum", &[rows], &vec![0.0; rows]).unwrap();
            }),
            "part.weight",
        ),
        ("another shape", refused("int8.t.p", |writer| writer.i8("part.weight", &[1, 1, 16, 4], &[0; 64]).unwrap()), "part.weight"),
        ("another type", refused("int8.t.p", |writer| writer.u8("part.weight", &shape, vec![0; values.len()]).unwrap()), "part.weight"),
        ("a recipe from the future", refused("int3", |writer| writer.i8("part.weight", &shape, &values).unwrap()), "int3"),
    ];
    for (what, error, named) in cases {
        assert!(error.contains(named) && error.contains("part.weight"), "{what}: {error}");
    }
}
