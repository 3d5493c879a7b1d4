//! GGUF files written byte by byte, right or wrong.

/// A value of the metadata: its type's number and its bytes.
#[derive(Debug, Clone)]
pub struct Value(pub u32, pub Vec<u8>);

pub fn u32(value: u32) -> Value {
    Value(4, value.to_le_bytes().into())
}

pub fn f32(value: f32) -> Value {
    Value(6, value.to_le_bytes().into())
}

pub fn flag(value: bool) -> Value {
    Value(7, vec![u8::from(value)])
}

/// A length and as many bytes.
pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

pub fn text(text: &str) -> Value {
    Value(8, string(text.as_bytes()))
}

/// An array of values of one type.
pub fn array(kind: u32, values: &[Vec<u8>]) -> Value {
    Value(9, [kind.to_le_bytes().as_slice(), &(values.len() as u64).to_le_bytes(), &values.concat()].concat())
}

pub fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Value {
    array(8, &values.into_iter().map(|text| string(text.as_bytes())).collect::<Vec<_>>())
}

pub fn i32s(values: impl IntoIterator<Item = i32>) -> Value {
    array(5, &values.into_iter().map(|value| value.to_le_bytes().into()).collect::<Vec<_>>())
}

/// A tensor as it is described, which need not be so.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    /// The innermost first, as in the file.
    pub sides: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

/// A file.
#[derive(Debug, Clone)]
pub struct File {
    pub version: u32,
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
    /// The tensors' bytes, all in one.
    pub data: Vec<u8>,
    pub alignment: usize,
}

impl Default for File {
    fn default() -> Self {
        Self { version: 3, metadata: Vec::new(), tensors: Vec::new(), data: Vec::new(), alignment: 32 }
    }
}

impl File {
    /// A language model's or a projector's keys.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Without a key.
    pub fn without(mut self, key: &str) -> Self {
        self.metadata.retain(|(other, _)| other != key);
        self
    }

    /// A tensor of floats, behind those that are there.
    pub fn floats(mut self, name: &str, shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let start = self.data.len().next_multiple_of(self.alignment);
        self.data.resize(start, 0);
        self.data.extend(values.into_iter().flat_map(f32::to_le_bytes));
        let sides = shape.iter().rev().map(|&side| side as u64).collect();
        self.tensors.push(Tensor { name: name.to_owned(), sides, kind: 0, offset: start as u64 });
        self
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, Value(kind, value)) in &self.metadata {
            bytes.extend(string(key.as_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for tensor in &self.tensors {
            bytes.extend(string(tensor.name.as_bytes()));
            bytes.extend((tensor.sides.len() as u32).to_le_bytes());
            bytes.extend(tensor.sides.iter().flat_map(|side| side.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment.max(1)), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A language model without tensors.
pub fn llama() -> File {
    File::default()
        .with("general.architecture", text("llama"))
        .with("llama.embedding_length", u32(8))
        .with("llama.feed_forward_length", u32(16))
        .with("llama.block_count", u32(1))
        .with("llama.context_length", u32(32))
        .with("llama.attention.head_count", u32(2))
        .with("llama.attention.layer_norm_rms_epsilon", f32(1e-5))
        .with("llama.vocab_size", u32(6))
}

/// A projector without tensors.
pub fn projector() -> File {
    let file = File::default().with("general.architecture", text("clip")).with("clip.projector_type", text("idefics3"));
    let sizes = [
        ("embedding_length", 8),
        ("feed_forward_length", 16),
        ("block_count", 1),
        ("attention.head_count", 2),
        ("image_size", 16),
        ("patch_size", 4),
        ("projection_dim", 8),
        ("projector.scale_factor", 2),
    ];
    let file = sizes.into_iter().fold(file, |file, (key, size)| file.with(&format!("clip.vision.{key}"), u32(size)));
    let three = array(6, &[0.5f32, 0.25, 0.125].map(|value| value.to_le_bytes().to_vec()));
    file.with("clip.vision.attention.layer_norm_epsilon", f32(1e-6))
        .with("clip.vision.image_mean", three.clone())
        .with("clip.vision.image_std", three)
        .with("clip.use_gelu", flag(true))
}
