#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocelli_fuzz::gguf(data));
