//! A file made to do harm: its seal is right, its content is not. Nothing panics, and nothing is allocated by its word alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use ocelli_bundle::{Bundle, BundleError, BundleWriter, Golden, Manifest};
use sha2::{Digest, Sha256};

/// Keeps the largest single request.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// serde reserves at most 1 MiB ahead for a sequence whose length it is told; the rest must follow from the file's own size.
const LIMIT: usize = 2 << 20;

fn bundle() -> Vec<u8> {
    let golden = Golden { name: "g".into(), input: "weight".into(), texts: Vec::new(), expected: vec!["bias".into()], tolerance: 0.0 };
    let mut writer = BundleWriter::new(Manifest { golden: vec![golden], ..Manifest::new("tiny", "example") });
    writer.i8("weight", &[3, 100], &[7; 300]).unwrap();
    writer.f32("bias", &[3], &[1.0, -1.0, 0.0]).unwrap();
    writer.text("labels", "cat\ndog").unwrap();
    writer.into_bytes().unwrap()
}

/// The length of the head, by the format's description.
fn head_len(bytes: &[u8]) -> usize {
    let metadata = u32::from_le_bytes(bytes[6..10].try_into().unwrap()) as usize;
    (10 + metadata).next_multiple_of(256)
}

/// Makes the seal right again, by the format's description.
fn reseal(bytes: &mut [u8]) {
    let head = head_len(bytes).min(bytes.len() - 64);
    let (content, seal) = bytes.split_at_mut(bytes.len() - 64);
    seal[..16].copy_from_slice(b"OCELSEAL\0\0\0\0\0\0\0\0");
    seal[16..48].copy_from_slice(&Sha256::digest(&content[..head]));
    let own = Sha256::digest(&seal[..48]);
    seal[48..].copy_from_slice(&own[..16]);
}

/// SplitMix64: numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// Opens, reads everything, verifies. Says whether it opened.
fn use_it(bytes: &[u8]) -> Result<(), BundleError> {
    let copy = bytes::Bytes::from(bytes.to_vec());
    LARGEST.store(0, Ordering::Relaxed);
    let result = Bundle::from_bytes(copy).and_then(|bundle| {
        let _ = bundle.tensors().map(|t| t.elements() + t.shape.len() + t.shared().len()).sum::<usize>();
        bundle.verify()
    });
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest < LIMIT + bytes.len(), "{largest} bytes in one allocation for a file of {}", bytes.len());
    result
}

#[test]
fn resealed_content_never_panics_and_never_allocates_at_will() {
    let good = bundle();
    let mut again = good.clone();
    reseal(&mut again);
    assert_eq!(again, good, "the seal as this test describes it is the seal as it is written");

    // One byte of the head at a time, every value that CBOR gives a special meaning, and some more.
    let head = head_len(&good);
    let mut opened = 0;
    for at in 0..head {
        for value in [0x00, 0x1a, 0x1b, 0x3b, 0x5b, 0x5f, 0x7b, 0x7f, 0x9a, 0x9b, 0x9f, 0xbb, 0xbf, 0xdb, 0xf6, 0xfb, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            reseal(&mut bad);
            opened += usize::from(use_it(&bad).is_ok());
        }
    }
    // Letters of texts may well change unseen to a resealed file; the structure may not.
    assert!(opened > 0 && opened < 17 * head, "{opened} of {}", 17 * head);

    // Several at once.
    let mut numbers = Numbers(1);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..=numbers.below(8) {
            let (at, value) = (numbers.below(head), numbers.below(256) as u8);
            bad[at] = value;
        }
        reseal(&mut bad);
        let _ = use_it(&bad);
    }
}

#[test]
fn lengths_that_lie_are_errors() {
    // `"data_offsets"` is followed by an array of two unsigned numbers: make the end of one tensor huge.
    let good = bundle();
    let needle = b"data_offsets";
    let at = good.windows(needle.len()).position(|w| w == needle).unwrap() + needle.len();
    assert_eq!(good[at], 0x82, "a CBOR array of two");
    for byte in [0x1b, 0x3b] {
        let mut bad = good.clone();
        bad[at + 1] = byte;
        bad[at + 2..at + 10].fill(0xfe);
        reseal(&mut bad);
        use_it(&bad).expect_err("a tensor at the end of the address space");
    }
    // Metadata of 4 GiB in a small file.
    let mut bad = good.clone();
    bad[6..10].fill(0xff);
    reseal(&mut bad);
    use_it(&bad).expect_err("metadata longer than the file");
}

#[test]
fn junk_never_panics() {
    let mut numbers = Numbers(2);
    for _ in 0..5_000 {
        let mut junk: Vec<u8> = (0..numbers.below(600)).map(|_| numbers.below(256) as u8).collect();
        if junk.len() > 74 {
            junk[..6].copy_from_slice(b"NRUB\x01\0");
            let metadata = numbers.below(junk.len()) as u32;
            junk[6..10].copy_from_slice(&metadata.to_le_bytes());
            reseal(&mut junk);
        }
        use_it(&junk).expect_err("junk is no bundle");
    }
}

#[test]
fn golden_vectors_must_be_there() {
    // Through the writer this cannot be made; a manifest edited by hand can.
    let good = bundle();
    let needle = br#""expected":["bias"]"#;
    let at = good.windows(needle.len()).position(|w| w == needle).unwrap();
    let mut bad = good.clone();
    bad[at..at + needle.len()].copy_from_slice(br#""expected":["boas"]"#);
    reseal(&mut bad);
    let error = use_it(&bad).unwrap_err();
    assert!(matches!(&error, BundleError::MissingTensor { tensor, .. } if tensor == "boas"), "{error}");
}
