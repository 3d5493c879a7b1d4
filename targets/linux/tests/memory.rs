//! One test, in a program of its own: it looks at the whole program's memory.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;

use ocelli_linux::memory::{give_back_free, give_back_large};

const MB: usize = 1 << 20;

/// Resident memory that is no file's, in bytes.
fn anonymous() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}

#[test]
fn what_was_freed_goes_back_although_something_lies_behind_it() {
    // glibc moves its threshold above this one's size.
    drop(black_box(vec![1u8; 24 * MB]));
    // Eight buffers of 2 MB, each with something behind it that stays.
    let take = || (0..8).map(|_| (black_box(vec![1u8; 2 * MB]), black_box(vec![1u8; 1000]))).unzip::<_, _, Vec<_>, Vec<_>>();
    let before = anonymous().unwrap();
    let (free, kept) = take();
    drop(free);
    assert!(anonymous().unwrap() > before + 15 * MB, "glibc has given it back by itself: this test shows nothing");
    give_back_free();
    assert!(anonymous().unwrap() < before + 2 * MB, "{} bytes before, {} after", before, anonymous().unwrap());
    assert!(kept.iter().all(|kept| kept.iter().all(|&byte| byte == 1)));

    let before = anonymous().unwrap();
    let large = black_box(vec![1u8; 20 * MB]);
    let kept = black_box(vec![vec![1u8; 1000]; 1000]);
    drop(large);
    assert!(anonymous().unwrap() > before + 20 * MB, "glibc has given it back by itself: this test shows nothing");
    give_back_free();
    give_back_large();
    let before = anonymous().unwrap();
    let large = black_box(vec![1u8; 20 * MB]);
    let more = black_box(vec![vec![1u8; 1000]; 1000]);
    drop(large);
    assert!(anonymous().unwrap() < before + 4 * MB, "{} bytes before, {} after", before, anonymous().unwrap());
    assert_eq!(kept, more);
}
