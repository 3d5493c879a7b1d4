//! Checkpoints made on the spot: small ones of every form, and broken ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ocelli_models::plan::{Declared, Format, TokenizerFacts};
use ocelli_models::registry;
use serde_json::{Value, json};

/// Shape and values of each tensor.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A checkpoint before it is written.
#[derive(Clone)]
pub struct Checkpoint {
    pub format: Format,
    pub config: Value,
    pub tensors: Tensors,
}

impl Checkpoint {
    /// Every tensor that the configuration asks for, with values that can be told apart.
    pub fn of(config: Value, format: Format) -> Self {
        let declared =
            Declared { tokens: Some(TokenizerFacts { attention_mask: false, ..Default::default() }), ..Declared::new(&config, format) };
        let plan = registry::plan(&declared).unwrap();
        let mut tensors = Tensors::new();
        for piece in plan.rows.into_iter().flat_map(|row| row.pieces) {
            let count: usize = piece.shape.iter().product();
            let seed = piece.name.bytes().map(usize::from).sum::<usize>();
            let values = (0..count).map(|i| ((i * 7919 + seed) % 2003) as f32 / 2003.0 - 0.5).collect();
            tensors.insert(piece.name, (piece.shape, values));
        }
        Self { format, config, tensors }
    }

    /// A small `CLIPModel`.
    pub fn clip() -> Self {
        let tower =
            |width: usize| json!({"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2});
        let mut config = json!({"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 24});
        config["text_config"] = tower(32);
        config["text_config"]["vocab_size"] = json!(520);
        config["text_config"]["max_position_embeddings"] = json!(16);
        config["vision_config"] = tower(40);
        config["vision_config"]["image_size"] = json!(32);
        config["vision_config"]["patch_size"] = json!(16);
        Self::of(config, Format::Transformers)
    }

    /// A small model of open_clip.
    pub fn open_clip() -> Self {
        let config = json!({
            "model_cfg": {
                "embed_dim": 24,
                "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
                "text_cfg": {"context_length": 16, "vocab_size": 520, "width": 48, "heads": 3, "layers": 2},
            },
            "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        });
        Self::of(config, Format::OpenClip)
    }

    /// Writes everything but the weights.
    pub fn describe(&self, folder: &Path) {
        let name = if self.format == Format::OpenClip { "open_clip_config.json" } else { "config.json" };
        fs::write(folder.join(name), self.config.to_string()).unwrap();
        if self.format == Format::Transformers {
            let processor = json!({
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": self.config["vision_config"]["image_size"]},
                "crop_size": {"height": self.config["vision_config"]["image_size"], "width": self.config["vision_config"]["image_size"]},
            });
            fs::write(folder.join("preprocessor_config.json"), processor.to_string()).unwrap();
        }
        let (vocabulary, merges) = clip_tokenizer();
        fs::write(folder.join("vocab.json"), vocabulary).unwrap();
        fs::write(folder.join("merges.txt"), merges).unwrap();
    }

    /// Writes a folder with one file of safetensors; gives that file.
    pub fn write(&self, folder: &Path) -> PathBuf {
        self.describe(folder);
        let name = if self.format == Format::OpenClip { "open_clip_model.safetensors" } else { "model.safetensors" };
        fs::write(folder.join(name), safetensors(&self.tensors)).unwrap();
        folder.join(name)
    }
}

/// CLIP's tokenizer with no word but the letters: 512 tokens and the two marks.
pub fn clip_tokenizer() -> (String, String) {
    // GPT-2's letters for bytes.
    let printable = |byte: u32| (0x21..=0x7e).contains(&byte) || (0xa1..=0xac).contains(&byte) || (0xae..=0xff).contains(&byte);
    let others = (0..256).filter(|&byte| !printable(byte)).enumerate().map(|(i, _)| 256 + i as u32);
    let letters = (0..256).filter(|&byte| printable(byte)).chain(others).filter_map(char::from_u32);
    let letters: Vec<String> = letters.map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let marks = ["a b", "<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let tokens = letters.iter().cloned().chain(ends).chain([marks[0].replace(' ', "")]).chain(marks[1..].iter().cloned());
    let vocabulary: BTreeMap<String, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
    (json!(vocabulary).to_string(), format!("#version: 0.2\n{}\n", marks[0]))
}

/// The bytes of a safetensors file of f32.
pub fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, (shape, values)) in tensors {
        let start = end;
        end += 4 * values.len();
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    }
    let values = tensors.values().flat_map(|(_, values)| values).flat_map(|value| value.to_le_bytes());
    with_header(&Value::Object(header).to_string(), &values.collect::<Vec<u8>>())
}

/// A safetensors file with this header and this data.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Pickle's instructions, protocol 2.
pub mod pickle {
    pub fn text(text: &str) -> Vec<u8> {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    pub fn int(number: usize) -> Vec<u8> {
        [b"J".as_slice(), &(number as u32).to_le_bytes()].concat()
    }

    pub fn global(module: &str, name: &str) -> Vec<u8> {
        format!("c{module}\n{name}\n").into_bytes()
    }

    pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
        [b"(".as_slice(), &items.concat(), b"t"].concat()
    }

    pub fn dict(items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let items: Vec<u8> = items.iter().flat_map(|(key, value)| [key.clone(), value.clone()].concat()).collect();
        [b"}(".as_slice(), &items, b"u"].concat()
    }

    /// `callable(*items)`
    pub fn call(callable: &[u8], items: &[Vec<u8>]) -> Vec<u8> {
        [callable, &tuple(items), b"R"].concat()
    }

    pub fn whole(value: &[u8]) -> Vec<u8> {
        [b"\x80\x02".as_slice(), value, b"."].concat()
    }
}

/// A state dict whose tensors are the storages `0`, `1`, …; `more` entries behind them.
fn state_dict(tensors: &Tensors, more: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    use pickle::{call, dict, global, int, text, tuple};
    let numbers = |numbers: &[usize]| tuple(&numbers.iter().map(|&number| int(number)).collect::<Vec<_>>());
    let entries = tensors.iter().enumerate().map(|(i, (name, (shape, values)))| {
        let id = [text("storage"), global("torch", "FloatStorage"), text(&i.to_string()), text("cpu"), int(values.len())];
        let storage = [tuple(&id), b"Q".to_vec()].concat();
        let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let hooks = call(&global("collections", "OrderedDict"), &[]);
        let parts = [storage, int(0), numbers(shape), numbers(&strides), b"\x89".to_vec(), hooks];
        (text(name), call(&global("torch._utils", "_rebuild_tensor_v2"), &parts))
    });
    pickle::whole(&dict(&entries.chain(more).collect::<Vec<_>>()))
}

fn storages(tensors: &Tensors) -> impl Iterator<Item = Vec<u8>> + '_ {
    tensors.values().map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// What `torch.save` writes: a zip archive without compression.
pub fn pytorch_zip(tensors: &Tensors, more: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let data = storages(tensors).enumerate().map(|(i, bytes)| (format!("archive/data/{i}"), bytes));
    let head = [("archive/data.pkl".to_owned(), state_dict(tensors, more)), ("archive/version".to_owned(), b"3\n".to_vec())];
    zip(&head.into_iter().chain(data).collect::<Vec<_>>())
}

/// What `torch.save` wrote before 1.6: pickles one behind the other, and then the storages.
pub fn pytorch_legacy(tensors: &Tensors) -> Vec<u8> {
    use pickle::{dict, int, text, whole};
    let magic = whole(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
    let sizes = dict(&[("short", 2), ("int", 4), ("long", 4)].map(|(name, size)| (text(name), int(size))));
    let system = [(text("protocol_version"), int(1001)), (text("little_endian"), b"\x88".to_vec()), (text("type_sizes"), sizes)];
    let keys: Vec<u8> = (0..tensors.len()).flat_map(|i| text(&i.to_string())).collect();
    let keys = whole(&[b"](".as_slice(), &keys, b"e"].concat());
    let data = storages(tensors).flat_map(|bytes| [(bytes.len() as u64 / 4).to_le_bytes().to_vec(), bytes].concat());
    [magic, whole(&int(1001)), whole(&dict(&system)), state_dict(tensors, Vec::new()), keys, data.collect()].concat()
}

/// A zip archive of files that are not compressed.
fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let size = (bytes.len() as u32).to_le_bytes();
        // Version, flags, method, time and date, checksum, both sizes, lengths of the name and of nothing more.
        let fixed =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 33, 0], &crc32(bytes).to_le_bytes()[..], &size, &size, &(name.len() as u16).to_le_bytes(), &[0, 0]];
        let (fixed, offset) = (fixed.concat(), archive.len() as u32);
        archive.extend([b"PK\x03\x04", fixed.as_slice(), name.as_bytes(), bytes].concat());
        directory.extend([b"PK\x01\x02\x14\x00", fixed.as_slice(), &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat());
    }
    let count = (files.len() as u16).to_le_bytes();
    let end = [&[0; 4], &count[..], &count, &(directory.len() as u32).to_le_bytes(), &(archive.len() as u32).to_le_bytes(), &[0, 0]];
    [archive, directory, [b"PK\x05\x06", end.concat().as_slice()].concat()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut crc, &byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    })
}
